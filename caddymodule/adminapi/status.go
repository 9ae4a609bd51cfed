package adminapi

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/caddy-openplatform/openplatform/internal/platform"
)

func (a *AdminAPI) status(r *http.Request) (any, error) {
	return a.app.Status(r.Context()), nil
}

func (a *AdminAPI) listAudit(r *http.Request) (any, error) {
	q, err := query(r, "actor", "action", "target", "since", "until", "limit", "before")
	if err != nil {
		return nil, err
	}
	f := platform.AuditFilter{Actor: q.Get("actor"), Action: q.Get("action"), Target: q.Get("target")}
	if f.Since, err = moment(q, "since"); err != nil {
		return nil, err
	}
	if f.Until, err = moment(q, "until"); err != nil {
		return nil, err
	}
	if f.Limit, err = rows(q); err != nil {
		return nil, err
	}
	before, err := number(q, "before")
	if err != nil {
		return nil, err
	}
	f.Before = int64(before)
	entries, err := a.app.Service().Audit(r.Context(), f)
	if err != nil {
		return nil, err
	}
	return map[string]any{"entries": nonNil(entries)}, nil
}

// rotateMasterKey streams its progress, a JSON object a line; the last one
// says finished or error. A client that goes away stops the rotation, which
// can be taken up again.
func (a *AdminAPI) rotateMasterKey(w http.ResponseWriter, r *http.Request) {
	var last RotationLine
	enc := json.NewEncoder(w)
	started := false
	line := func() {
		if !started {
			w.Header().Set("Content-Type", "application/x-ndjson")
			started = true
		}
		_ = enc.Encode(last)
		if err := http.NewResponseController(w).Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return // the client has gone; the request's context ends the work
		}
	}
	err := a.app.RotateMasterKey(r.Context(), actor(r), func(done, total int) {
		last = RotationLine{Done: done, Total: total}
		line()
	})
	switch {
	case err != nil && !started:
		w.(*reply).err = err
		return
	case err != nil:
		last.Error = err.Error()
	default:
		last.Finished = true
	}
	line()
}
