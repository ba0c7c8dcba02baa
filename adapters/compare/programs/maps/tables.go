package main

import (
	"github.com/cockroachdb/swiss"
	hakmemswiss "github.com/hakmem/hakmem/adapters/swiss"
	"github.com/hakmem/hakmem/offheap"
)

// table is a map from uint64 to uint64. Its methods work on a range of numbers, so that a loop over single
// operations is compiled for each map.
type table interface {
	insert(first, last int) uint64     // the numbers' keys, with themselves as values
	lookup(first, last, n int) uint64  // returns the sum of values of other numbers below n
	replace(first, last, n int) uint64 // deletes the numbers' keys, each before it inserts the one of number + n
	len() int
	close()
}

type goTable struct{ m map[uint64]uint64 }

func (t *goTable) insert(first, last int) uint64 {
	if t.m == nil {
		t.m = map[uint64]uint64{}
	}
	for i := first; i < last; i++ {
		t.m[scatter(i)] = uint64(i)
	}
	return 0
}

func (t *goTable) lookup(first, last, n int) (sum uint64) {
	for i := first; i < last; i++ {
		sum += t.m[scatter(elsewhere(i, n))]
	}
	return sum
}

func (t *goTable) replace(first, last, n int) uint64 {
	for i := first; i < last; i++ {
		delete(t.m, scatter(i))
		t.m[scatter(i+n)] = uint64(i)
	}
	return 0
}

func (t *goTable) len() int { return len(t.m) }
func (t *goTable) close()   { t.m = nil }

type swissTable struct {
	m       *swiss.Map[uint64, uint64]
	outside bool // the groups are in hakmem
}

func (t *swissTable) insert(first, last int) uint64 {
	if t.m == nil {
		if t.outside {
			groups := hakmemswiss.New[swiss.Group[uint64, uint64]](hakmemswiss.Options{})
			t.m = swiss.New(0, swiss.WithAllocator[uint64, uint64](groups))
		} else {
			t.m = swiss.New[uint64, uint64](0)
		}
	}
	for i := first; i < last; i++ {
		t.m.Put(scatter(i), uint64(i))
	}
	return 0
}

func (t *swissTable) lookup(first, last, n int) (sum uint64) {
	for i := first; i < last; i++ {
		v, _ := t.m.Get(scatter(elsewhere(i, n)))
		sum += v
	}
	return sum
}

func (t *swissTable) replace(first, last, n int) uint64 {
	for i := first; i < last; i++ {
		t.m.Delete(scatter(i))
		t.m.Put(scatter(i+n), uint64(i))
	}
	return 0
}

func (t *swissTable) len() int { return t.m.Len() }
func (t *swissTable) close()   { t.m.Close(); t.m = nil }

type hakmemTable struct {
	m offheap.Map[uint64, uint64]
}

func (t *hakmemTable) insert(first, last int) uint64 {
	for i := first; i < last; i++ {
		t.m.Put(scatter(i), uint64(i))
	}
	return 0
}

func (t *hakmemTable) lookup(first, last, n int) (sum uint64) {
	for i := first; i < last; i++ {
		v, _ := t.m.Get(scatter(elsewhere(i, n)))
		sum += v
	}
	return sum
}

func (t *hakmemTable) replace(first, last, n int) uint64 {
	for i := first; i < last; i++ {
		t.m.Delete(scatter(i))
		t.m.Put(scatter(i+n), uint64(i))
	}
	return 0
}

func (t *hakmemTable) len() int { return t.m.Len() }
func (t *hakmemTable) close()   { t.m.Close() }
