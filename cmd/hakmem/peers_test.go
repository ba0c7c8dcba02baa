package main

import (
	"slices"
	"testing"
)

func TestCleanEnv(t *testing.T) {
	env := []string{"PATH=/bin", "HAKMEM_MODE=fast", "MALLOC_ARENA_MAX=1", "MIMALLOC_VERBOSE=1", "GOGC=off", "HOME=/"}
	kept, dropped := cleanEnv(env)
	if !slices.Equal(kept, []string{"PATH=/bin", "HOME=/"}) || !slices.Equal(dropped, []string{"HAKMEM_MODE", "MALLOC_ARENA_MAX", "MIMALLOC_VERBOSE", "GOGC"}) {
		t.Errorf("left %q, dropped %q", kept, dropped)
	}
	if len(env) != 6 || env[1] != "HAKMEM_MODE=fast" {
		t.Errorf("the argument was changed: %q", env)
	}
}
