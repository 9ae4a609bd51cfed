package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// profileLength is how long the gateway is profiled, in seconds.
const profileLength = 5

// profile writes two profiles of a gateway under load into dir: its CPU
// time, then its allocations. They are taken after the runs that count.
func (r *rig) profile(ctx context.Context, l load, dir, name string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("profiling: %w", err)
	}
	for kind, path := range map[string]string{"cpu": "profile", "allocs": "allocs"} {
		ctx, cancel := context.WithCancel(ctx)
		loaded := make(chan error, 1)
		go func() {
			_, err := r.attack(ctx, l, unlimited, (profileLength+2)*time.Second)
			loaded <- err
		}()
		err := fetch(ctx, r.gateways[l.variant][0].admin, path, filepath.Join(dir, name+"."+kind+".pprof"))
		if err != nil {
			cancel()
		}
		err = errors.Join(err, <-loaded)
		cancel()
		if err != nil {
			return fmt.Errorf("profiling: %w", err)
		}
	}
	return nil
}

// fetch copies a profile from the admin endpoint into a file.
func fetch(ctx context.Context, admin, profile, file string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, (profileLength+30)*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet,
		fmt.Sprintf("http://%s/debug/pprof/%s?seconds=%d", admin, profile, profileLength), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the admin endpoint answered %s", resp.Status)
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, resp.Body)
	return err
}
