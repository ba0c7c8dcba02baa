package offheap_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/testkit"
)

// This file is what the tests of this package share. Cases that need a process of their own are
// registered with testkit.Child, next to the tests that run them.

func TestMain(m *testing.M) { testkit.Main(m) }

// modes are the settings with which a case runs by itself: as it is, hardened, each block guarded.
var modes = [][]string{nil, {"HAKMEM_HARDEN=1"}, {"HAKMEM_GUARD=1"}}

// inModes runs a case of testkit.Child once with each of the modes.
func inModes(t *testing.T, name string) {
	t.Helper()
	for _, settings := range modes {
		testkit.InChild(t, name, "", settings...)
	}
}

// newRand returns a generator with the given seed and writes the seed to the test's log.
func newRand(t testing.TB, seed uint64) *rand.Rand {
	t.Helper()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, seed^0x5DEECE66D))
}

// liveBlocks returns the number of live blocks.
func liveBlocks() (n int) {
	for range hakmem.LiveBlocks() {
		n++
	}
	return n
}

// mustPanicNaming calls do, which must panic with a text that contains all of the words.
func mustPanicNaming(t testing.TB, what string, do func(), words ...string) {
	t.Helper()
	v := testkit.PanicOf(do)
	if v == nil {
		t.Errorf("%s: no panic", what)
		return
	}
	mustName(t, what, v, words...)
}

// mustName checks that the text of an error or a panic contains all of the words.
func mustName(t testing.TB, what string, v any, words ...string) {
	t.Helper()
	text := fmt.Sprint(v)
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%s: %q does not name %q", what, text, w)
		}
	}
}

// text returns n bytes in which each place differs from its neighbours.
func text(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i) ^ byte(i>>8)*31
	}
	return p
}
