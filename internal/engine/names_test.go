package engine

import "testing"

func TestOwnPrefixes(t *testing.T) {
	for _, x := range []struct{ what, function, public, engine string }{
		{"as published", "github.com/hakmem/hakmem/internal/engine.init", "github.com/hakmem/hakmem.", "github.com/hakmem/hakmem/internal/engine."},
		{"vendored", "example.com/x/vendor/github.com/hakmem/hakmem/internal/engine.thisFunction", "example.com/x/vendor/github.com/hakmem/hakmem.", "example.com/x/vendor/github.com/hakmem/hakmem/internal/engine."},
		{"a fork", "example.com/alloc/internal/engine.init.0", "example.com/alloc.", "example.com/alloc/internal/engine."},
		{"a fork whose name has a dot", "example.com/hakmem.v2/internal/engine.init", "example.com/hakmem%2ev2.", "example.com/hakmem.v2/internal/engine."},
		{"a module of one element", "hakmem/internal/engine.init", "hakmem.", "hakmem/internal/engine."},
		{"a method", "github.com/hakmem/hakmem/internal/engine.(*tree).find", "github.com/hakmem/hakmem.", "github.com/hakmem/hakmem/internal/engine."},
		{"a name that was made unreadable", "qXk3b.z9", "", "qXk3b."},
	} {
		if public, engine := ownPrefixes(x.function); public != x.public || engine != x.engine {
			t.Errorf("%s: %s: prefixes %q and %q, want %q and %q", x.what, x.function, public, engine, x.public, x.engine)
		}
	}
}

// TestOwn: a package next to or below the public one is another package.
func TestOwn(t *testing.T) {
	for name, want := range map[string]bool{
		publicPrefix + "Malloc":              true,
		publicPrefix + "(*Heap).Free":        true,
		enginePrefix + "Record":              true,
		"main.main":                          false,
		"example.com/x" + "." + "New[...]":   false,
		trimDot(publicPrefix) + "test.Mine":  false,
		trimDot(publicPrefix) + "_test.Mine": false,
		trimDot(publicPrefix) + "/arena.New": false,
		trimDot(enginePrefix) + "/x.F":       false,
	} {
		if got := Own(name); got != want {
			t.Errorf("Own(%q) = %v", name, got)
		}
	}
}

func trimDot(prefix string) string { return prefix[:len(prefix)-1] }
