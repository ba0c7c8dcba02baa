package engine

import (
	"slices"

	"github.com/hakmem/hakmem/internal/check"
)

var survived struct {
	check.Mutex[check.Survived]
	errs  []error
	texts [maxSurvived]string
}

// maxSurvived bounds the list of survived errors: the first ones tell most.
const maxSurvived = 16

// survive records an error that did not stop hakmem, unless there is one already
// that reads the same: in a storm of failures the list would have no place for
// another kind.
func survive(err error) {
	text := err.Error()
	s := &survived
	s.Lock()
	defer s.Unlock()
	n := len(s.errs)
	if n < maxSurvived && !slices.Contains(s.texts[:n], text) {
		s.texts[n], s.errs = text, append(s.errs, err)
	}
}

// Survived returns what went wrong so far and was survived, oldest first.
func Survived() []error {
	survived.Lock()
	defer survived.Unlock()
	return append([]error(nil), survived.errs...)
}

// Survive records an error of the public package that did not stop hakmem.
func Survive(err error) { survive(err) }
