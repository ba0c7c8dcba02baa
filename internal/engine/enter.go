package engine

import (
	"errors"
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem/internal/check"
)

// This file gives a goroutine a front to work with. A front is owned from enter until leave: by
// pinning the P, by a shard's lock, or because it is the Heap's own.

// newFront returns an empty front, for a Heap or a P. It returns 0 when memory is out or too many
// fronts are in use. Not pinned.
func newFront(private bool) Front {
	if !Ready() {
		return 0
	}
	f, err := takeFront(private)
	if err != nil {
		region.mu.Lock()
		defer region.mu.Unlock()
		if errors.Is(err, errFrontLimit) {
			refuseByLimit()
		} else {
			_ = region.refuse(err)
		}
	}
	return f
}

// A token says how enter got hold of a front. Every token must be left exactly once (leave). It is
// the index of a shard; or pinned: the P is pinned; or below that: a Heap's own front, whose address
// is the negative of the token.
type token int

const pinned token = -1

// own returns the Heap's front that enter was given, or 0.
func (t token) own() Front {
	if t < pinned {
		return Front(-t)
	}
	return 0
}

// enter gives the caller the front to use. That is a Heap's own, or the current P's with the P
// pinned. Without pinning, and while calls are watched, it is a locked front. Until leave, the
// caller must not block, allocate Go memory, panic or make a system call (docs/concurrency.md,
// section 1).
//
// The goroutine may be on another P than when it last looked. So before it acts on a magazine that
// was found empty or full then, it must try the magazine again.
func enter(own Front) (f Front, tok token) {
	if own != 0 {
		own.hold()
		check.Enter()
		return own, -token(own)
	}
	if canPin && !Watched() {
		pid := procPin()
		if uint(pid) < MaxP {
			check.Enter()
			return Front(atomic.LoadUintptr(&frontTable.Load()[pid])), pinned
		}
		procUnpin()
	}
	i := lockShard()
	check.Enter()
	return shards[i].front, token(i)
}

// leave ends what enter began and returned tok for.
func leave(tok token) {
	check.Leave()
	switch {
	case tok < pinned:
		Front(-tok).release()
	case tok == pinned:
		procUnpin()
	default:
		shards[tok].mu.Unlock()
	}
}

// lockShard locks a shard and returns its index. It first tries the shard that the address of the
// goroutine's stack chooses, and then the next ones. If none is free, it waits for the chosen one.
func lockShard() int {
	var here byte
	// Goroutine stacks are at least 2 KiB apart. The multiplier spreads them (the golden ratio in
	// 64 bits, Knuth vol. 3, 6.4).
	h := uint64(uintptr(unsafe.Pointer(&here))>>11) * 0x9E3779B97F4A7C15
	first := int(h >> 58) // 6 bits: NumShards
	for i := range NumShards {
		n := (first + i) % NumShards
		if shards[n].mu.TryLock() {
			return n
		}
	}
	shards[first].mu.Lock()
	return first
}

// installFront puts a front in the place of the trap that the caller met under tok. It returns
// false when memory is out. Otherwise the caller enters again, and may meet another trap. Not
// entered; the P that gets the front is the one that the goroutine is on by the end.
func installFront(tok token) bool {
	check.MustNotBeEntered("installFront")
	f := newFront(false)
	if f == 0 {
		return false
	}
	ok := false
	if tok == pinned {
		// The look at watched must be pinned: see Watch.
		pid := procPin()
		f.setOwner() // first: a front that a drain has swapped out has no owner
		ok = uint(pid) < MaxP && !Watched() && atomic.CompareAndSwapUintptr(&frontTable.Load()[pid], uintptr(trapFront), uintptr(f))
		if !ok {
			f.clearOwner()
		}
		procUnpin()
	} else {
		s := &shards[tok]
		s.mu.Lock()
		if ok = s.front == trapFront; ok {
			s.front = f
		}
		s.mu.Unlock()
	}
	if !ok {
		recycle(f)
	}
	return true
}
