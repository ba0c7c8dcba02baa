package governor

import (
	"errors"
	"sync"
)

// topic is what a report is about. There is one report of each, the first, and one for each callback.
type topic string

const (
	aboutGoLimit   topic = "Go's limit"
	aboutPercent   topic = "GC percent"
	aboutHakmem    topic = "hakmem's limits"
	aboutContainer topic = "container"
)

// reports collects errors that were survived. Any goroutine.
type reports struct {
	mu   sync.Mutex
	errs []error
	of   map[topic]bool
}

// add adds an error, unless there is one about the topic already.
func (r *reports) add(about topic, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil {
		r.of = map[topic]bool{}
	}
	if !r.of[about] {
		r.of[about] = true
		r.errs = append(r.errs, err)
	}
}

func (r *reports) err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(r.errs...)
}
