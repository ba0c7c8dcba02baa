//go:build !amd64 && !arm64

package engine

// frames returns 0: there are no frame pointers, or they were not tried.
func frames([]uintptr) int { return 0 }
