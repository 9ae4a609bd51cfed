//go:build !soak

package integration

// How often the long tests repeat what they do.
const (
	reloads = 20
	kills   = 3
)
