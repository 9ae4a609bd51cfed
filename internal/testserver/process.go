//go:build linux

// Package testserver starts real PostgreSQL and Redis servers for tests and
// benchmarks: on free ports, in folders of their own, never as root. A server
// can be stopped, paused, killed and started again, as operators' servers are
// by accident.
package testserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// startTimeout bounds the start of a server on a busy machine.
	startTimeout = 60 * time.Second
	// startTries is how often a start is tried: somebody else may take the
	// free port first.
	startTries = 3
	// pollEvery is how often a starting or ending server is looked at.
	pollEvery = 20 * time.Millisecond
)

// process is a server that runs.
type process struct {
	cmd  *exec.Cmd
	log  *output
	done chan struct{} // closed when it has ended
}

// launch starts a program that serves one of the folders made by folder.
func launch(dir string, program string, args ...string) (*process, error) {
	p := &process{log: new(output), done: make(chan struct{})}
	p.cmd = exec.Command(program, args...) //nolint:gosec,noctx // G204: a server's own program, which ends by a signal
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, p.log, p.log
	p.cmd.Env = append(os.Environ(), "LC_ALL=C")
	p.cmd.SysProcAttr = unprivileged()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", program, err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// ready waits until probe succeeds.
func (p *process) ready(probe func() error) error {
	deadline := time.Now().Add(startTimeout)
	for {
		err := probe()
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended at its start: %s", p.cmd.Path, p.log)
		case <-time.After(pollEvery):
		}
		if time.Now().After(deadline) {
			p.kill()
			return fmt.Errorf("%s did not answer within %v: %w: %s", p.cmd.Path, startTimeout, err, p.log)
		}
	}
}

// end sends the signal and waits until the server and its children are gone.
func (p *process) end(s syscall.Signal) {
	family := p.family()
	_ = p.cmd.Process.Signal(s)
	<-p.done
	for _, pid := range family {
		for syscall.Kill(pid, 0) == nil {
			time.Sleep(pollEvery)
		}
	}
}

// kill ends the server and its children at once, as the kernel does when
// memory runs out.
func (p *process) kill() {
	for _, pid := range p.family() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	p.end(syscall.SIGKILL)
}

// signal sends the signal to the server and its children.
func (p *process) signal(s syscall.Signal) {
	for _, pid := range p.family() {
		_ = syscall.Kill(pid, s)
	}
}

// family lists the server and its children.
func (p *process) family() []int {
	pids := []int{p.cmd.Process.Pid}
	children, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.cmd.Process.Pid))
	for _, file := range children {
		data, _ := os.ReadFile(file)
		for field := range strings.FieldsSeq(string(data)) {
			if pid, err := strconv.Atoi(field); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// output keeps what a server says, for the error that its failure becomes.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// servant is who servers run as where this process is root, which PostgreSQL
// refuses to run as.
func servant() (uid, gid int, ok bool) {
	if os.Getuid() != 0 {
		return 0, 0, false
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.Atoi(u.Uid)
		gid, gidErr := strconv.Atoi(u.Gid)
		if uidErr == nil && gidErr == nil {
			return uid, gid, true
		}
	}
	return 0, 0, false
}

func unprivileged() *syscall.SysProcAttr {
	// A test that is killed must not leave servers behind.
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if uid, gid, ok := servant(); ok {
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	return attr
}

// folder makes a folder that the servers' user owns.
func folder(name string) (string, error) {
	dir, err := os.MkdirTemp("", "testserver-"+name+"-")
	if err != nil {
		return "", fmt.Errorf("making a folder for %s: %w", name, err)
	}
	return dir, own(dir)
}

// own gives a file or folder to the servers' user.
func own(path string) error {
	if uid, gid, ok := servant(); ok {
		return os.Chown(path, uid, gid)
	}
	return nil
}

// program finds a server's program: on the path, or where Debian puts it.
func program(name, where string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	found, _ := filepath.Glob(filepath.Join(where, name))
	if len(found) == 0 {
		return "", fmt.Errorf("%s is not installed; make test installs it, or install Debian's packages postgresql and redis-server", name)
	}
	slices.Sort(found)
	return found[len(found)-1], nil
}

// freePort is a port that nobody listened on a moment ago.
func freePort() (int, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("finding a free port: %w", err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}

// onFreePort calls start with free ports until one is still free when the
// server comes to take it.
func onFreePort(start func(port int) error) error {
	var all error
	for range startTries {
		port, err := freePort()
		if err == nil {
			err = start(port)
		}
		if err == nil {
			return nil
		}
		all = errors.Join(all, err)
	}
	return all
}
