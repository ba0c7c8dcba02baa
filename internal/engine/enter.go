package engine

import (
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem/internal/check"
)

// newFront returns an empty front, for a Heap or a P, or 0 when memory is out or too
// many are in use. Not pinned.
func newFront(private bool) Front {
	if !Ready() {
		return 0
	}
	f, err := takeFront(private)
	if err != nil {
		region.mu.Lock()
		_ = region.refuse(err)
		region.mu.Unlock()
	}
	return f
}

// A token says how enter got hold of a front.
type token int

const (
	pinned token = -1 - iota // the P is pinned
	owned                    // a Heap's own front: nothing to give back
)

// enter gives the caller the front to use: a Heap's own, or the current P's
// with the P pinned, or (without pinning, and while calls are watched) a locked
// one. Until leave, the caller must not block,
// allocate Go memory, panic or make a system call (docs/concurrency.md, section 1).
//
// The goroutine may be on another P than at the last look, so what was found
// empty or full then must be tried again first.
func enter(own Front) (f Front, tok token) {
	if own != 0 {
		check.Enter()
		return own, owned
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

func leave(tok token) {
	check.Leave()
	switch {
	case tok == owned:
	case tok == pinned:
		procUnpin()
	default:
		shards[tok].mu.Unlock()
	}
}

// lockShard locks some shard and returns its index: one chosen by the address
// of the goroutine's stack if it is free, else the next free one, else it
// waits for the chosen one.
func lockShard() int {
	var here byte
	// Goroutine stacks are at least 2 KiB apart; the multiplier spreads them
	// (the golden ratio in 64 bits, Knuth vol. 3, 6.4).
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

// installFront replaces the trap that the caller met under tok by a front. It
// reports false when memory is out; otherwise the caller enters again, and may
// meet another trap. Not entered; the P it serves is the one it ends on.
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
		f.setOwner() // first: what a drain has swapped out has no owner
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
