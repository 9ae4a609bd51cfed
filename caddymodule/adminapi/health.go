package adminapi

import (
	"net/http"
	"time"
)

// The states of a node's health.
const (
	// Ready: everything works.
	Ready = "ready"
	// Degraded: calls go on, without a server that is down.
	Degraded = "degraded"
	// NotReady: calls would be refused; send them to another node.
	NotReady = "not_ready"
)

// HealthReport tells whether this node can take calls.
type HealthReport struct {
	// Status is "ready", "degraded" or "not_ready".
	Status string `json:"status"`
	// Reason says why the node is not ready; empty when it is.
	Reason string `json:"reason,omitempty"`
	// Dependencies are the servers that the node relies on.
	Dependencies []Dependency `json:"dependencies"`
}

// Dependency is a server that the node relies on.
type Dependency struct {
	// Name is "store" or "redis".
	Name string `json:"name"`
	Up   bool   `json:"up"`
	// Error says why it counts as down.
	Error string `json:"error,omitempty"`
	// Since is when that was found out; absent while it is up.
	Since time.Time `json:"since,omitzero"`
}

// HTTPStatus is what a load balancer goes by: 200 while calls may come.
func (h *HealthReport) HTTPStatus() int {
	if h.Status == NotReady {
		return http.StatusServiceUnavailable
	}
	return http.StatusOK
}

// Down lists the names of the servers that are down.
func (h *HealthReport) Down() []string {
	var names []string
	for _, d := range h.Dependencies {
		if !d.Up {
			names = append(names, d.Name)
		}
	}
	return names
}

func (a *AdminAPI) health(w http.ResponseWriter, _ *http.Request) {
	h := a.app.Health()
	writeJSON(w, h.HTTPStatus(), h)
}
