package offheap

import (
	"fmt"
	"strings"

	"github.com/hakmem/hakmem"
)

// This file checks the options of what this package makes.

// only returns the options that function op was given, of which there may be one at most; none stand for the zero
// value.
func only[O any](op string, options []O) (o O) {
	switch len(options) {
	case 0:
		return o
	case 1:
		return options[0]
	}
	name := strings.TrimPrefix(fmt.Sprintf("%T", o), "offheap.")
	panic(fmt.Sprintf("offheap: %s: %d %s: give one at most", op, len(options), name))
}

// mustBeCapacity panics if an option of function op is negative.
func mustBeCapacity(op string, n int) {
	if n < 0 {
		panic(fmt.Sprintf("offheap: %s: Capacity %d: it must not be negative", op, n))
	}
}

// mustBeSite panics for a site that is not registered.
func mustBeSite(s hakmem.Site) {
	if s != 0 {
		hakmem.ReadSiteRule(s)
	}
}
