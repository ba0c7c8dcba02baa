package hakmemtest_test

import (
	"testing"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/hakmemtest"
)

// list is the code under test. It owns memory of hakmem.
type list struct{ items []byte }

func newList() *list     { return &list{items: hakmem.Alloc(1000)} }
func (l *list) Close()   { hakmem.FreeBytes(l.items) }
func (l *list) Len() int { return len(l.items) }

func ExampleNoLeaks() {
	// In your tests:
	testList := func(t *testing.T) {
		hakmemtest.NoLeaks(t) // before anything else in the test
		l := newList()
		defer l.Close() // without this the test fails and names newList
		if l.Len() != 1000 {
			t.Error("the list is too short")
		}
	}
	_ = testList
}
