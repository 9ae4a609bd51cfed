//go:build soak

package integration

// How often the long tests repeat what they do.
const (
	reloads = 200
	kills   = 100
)
