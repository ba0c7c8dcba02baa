package main

import (
	"errors"
	"math/rand/v2"
	"time"
	"unsafe"

	"github.com/hakmem/hakmem"
)

// The pace of the work. A step allocates and frees some 2 MB, so that a second takes a few percent of a core.
const (
	stepTime       = 20 * time.Millisecond
	cycle          = 1500 // steps: half a minute, after which the cache and the uploads begin anew
	sessionsAStep  = 200
	maxSessions    = 40_000
	valuesAStep    = 60
	uploadsInBurst = 24
)

// work is the state of the imaginary server. It is for one goroutine.
type work struct {
	rand                      *rand.Rand
	steps                     int
	sessions, values, uploads blocks
}

// blocks are the live blocks of one part of the server.
type blocks struct {
	site hakmem.Site
	held []unsafe.Pointer
}

var errOutOfMemory = errors.New("out of memory")

func newWork(seed uint64) *work {
	return &work{
		rand:     rand.New(rand.NewPCG(seed, 0)),
		sessions: blocks{site: hakmem.RegisterSite("sessions")},
		values:   blocks{site: hakmem.RegisterSite("cache values")},
		uploads:  blocks{site: hakmem.RegisterSite("uploads")},
	}
}

// take allocates a block and writes to each of its OS pages, as whoever uses it would.
func (b *blocks) take(size int) error {
	p := hakmem.MallocAt(b.site, uintptr(size))
	if p == nil {
		return errOutOfMemory
	}
	for i, block := 0, unsafe.Slice((*byte)(p), size); i < size; i += 4096 {
		block[i] = 1
	}
	b.held = append(b.held, p)
	return nil
}

// drop frees the block number i.
func (b *blocks) drop(i int) {
	last := len(b.held) - 1
	hakmem.Free(b.held[i])
	b.held[i] = b.held[last]
	b.held = b.held[:last]
}

// step is what the server does in one stepTime.
func (w *work) step() error {
	at := w.steps % cycle
	w.steps++
	for range sessionsAStep { // old ones end by chance
		if err := w.sessions.take(48 + w.rand.IntN(400)); err != nil {
			return err
		}
		if len(w.sessions.held) > maxSessions {
			w.sessions.drop(w.rand.IntN(len(w.sessions.held)))
		}
	}
	switch {
	case at < cycle/2: // the cache fills, and some values are replaced
		for range valuesAStep {
			if err := w.values.take(512 << w.rand.IntN(6)); err != nil {
				return err
			}
		}
		for range valuesAStep / 3 {
			w.values.drop(w.rand.IntN(len(w.values.held)))
		}
	case at < cycle*3/4: // most of it expires
		for range 4 * valuesAStep {
			if len(w.values.held) > cycle { // a few values are always wanted
				w.values.drop(w.rand.IntN(len(w.values.held)))
			}
		}
	}
	if at%(cycle/6) < uploadsInBurst {
		return w.uploads.take(128<<10 + w.rand.IntN(4<<20))
	}
	if len(w.uploads.held) > 0 && at%6 == 0 {
		w.uploads.drop(0)
	}
	return nil
}

// close frees all blocks.
func (w *work) close() {
	for _, b := range []*blocks{&w.sessions, &w.values, &w.uploads} {
		for len(b.held) > 0 {
			b.drop(len(b.held) - 1)
		}
	}
}
