package engine

import (
	"slices"

	"github.com/hakmem/hakmem/internal/check"
)

// This file keeps the errors that did not stop hakmem. The list is owned by its own lock, which may
// be taken under almost any other (docs/concurrency.md, section 2).

var survived struct {
	check.Mutex[check.Survived]
	errs []error
	keys [maxSurvived]string
}

// maxSurvived bounds the list of survived errors. The first ones say the most.
const maxSurvived = 16

// survive records an error that did not stop hakmem, unless an error with the same text is recorded
// already. Otherwise a storm of failures of one kind would leave no room for another kind.
func survive(err error) { surviveAs(err.Error(), err) }

// surviveAs is survive for an error that is one of a kind: it is recorded unless one with the same
// key is.
func surviveAs(key string, err error) {
	s := &survived
	s.Lock()
	defer s.Unlock()
	n := len(s.errs)
	if n < maxSurvived && !slices.Contains(s.keys[:n], key) {
		s.keys[n], s.errs = key, append(s.errs, err)
	}
}

// Survived returns the errors so far that did not stop hakmem, oldest first.
func Survived() []error {
	survived.Lock()
	defer survived.Unlock()
	return append([]error(nil), survived.errs...)
}

// Survive records an error of the public package that did not stop hakmem.
func Survive(err error) { survive(err) }
