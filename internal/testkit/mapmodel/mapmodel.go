// Package mapmodel runs programs of random calls on a map of package offheap and compares it with Go's
// map.
package mapmodel

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/hakmem/hakmem/offheap"
)

// Value is what the maps hold. It is so large that a table has few slots: a map of some hundred
// entries has tables of all sizes, and a directory.
type Value [64]uint64

func valueOf(v uint64) (value Value) {
	value[0], value[len(value)-1] = v, ^v
	return value
}

func (v *Value) number() (uint64, error) {
	if v[0] != ^v[len(v)-1] {
		return 0, fmt.Errorf("a torn value: %d and %d", v[0], ^v[len(v)-1])
	}
	return v[0], nil
}

// Map is the map under test, with keys that are numbers.
type Map interface {
	Put(key int, v Value)
	PutPtr(key int) (*Value, bool)
	Get(key int) (Value, bool)
	GetPtr(key int) *Value
	Delete(key int) bool
	Len() int
	Clear()
	Reserve(n int)
	All() iter.Seq2[int, Value]
	Close()
}

// OfNumbers is a Map of uint64.
type OfNumbers struct {
	*offheap.Map[uint64, Value]
}

func (m OfNumbers) Put(key int, v Value)          { m.Map.Put(uint64(key), v) }
func (m OfNumbers) PutPtr(key int) (*Value, bool) { return m.Map.PutPtr(uint64(key)) }
func (m OfNumbers) Get(key int) (Value, bool)     { return m.Map.Get(uint64(key)) }
func (m OfNumbers) GetPtr(key int) *Value         { return m.Map.GetPtr(uint64(key)) }
func (m OfNumbers) Delete(key int) bool           { return m.Map.Delete(uint64(key)) }
func (m OfNumbers) All() iter.Seq2[int, Value] {
	return func(yield func(int, Value) bool) {
		m.Map.All()(func(k uint64, v Value) bool { return yield(int(k), v) })
	}
}

// OfStrings is a StringMap. Half of its keys are short, so that they have no block of their own.
type OfStrings struct {
	*offheap.StringMap[Value]
}

// text returns key n: each length up to 31 comes, and the bytes that differ come first, last or alone.
func text(n int) string {
	s := fmt.Sprintf("%d", n)
	if n == 0 {
		return ""
	}
	pad := strings.Repeat("-", max(0, n%32-len(s)))
	if n%64 < 32 {
		return s + pad
	}
	return pad + s
}

func number(text string) (n int) {
	if s := strings.Trim(text, "-"); s != "" {
		if _, err := fmt.Sscan(s, &n); err != nil {
			panic(fmt.Sprintf("%q is not a key", text))
		}
	}
	return n
}

func (m OfStrings) Put(key int, v Value) { m.StringMap.Put(text(key), v) }
func (m OfStrings) PutPtr(key int) (*Value, bool) {
	if key%2 == 0 {
		return m.StringMap.PutPtrBytes([]byte(text(key)))
	}
	return m.StringMap.PutPtr(text(key))
}
func (m OfStrings) Get(key int) (Value, bool) {
	if key%2 == 0 {
		return m.StringMap.GetBytes([]byte(text(key)))
	}
	return m.StringMap.Get(text(key))
}
func (m OfStrings) GetPtr(key int) *Value { return m.StringMap.GetPtr(text(key)) }
func (m OfStrings) Delete(key int) bool   { return m.StringMap.Delete(text(key)) }
func (m OfStrings) All() iter.Seq2[int, Value] {
	return func(yield func(int, Value) bool) {
		m.StringMap.All()(func(k string, v Value) bool { return yield(number(k), v) })
	}
}

// Choose returns a number from 0 to n-1.
type Choose func(what string, n int) int

// keys is the number of keys: enough for a directory of some 32 tables.
const keys = 600

// Machine is a map under test with its model.
type Machine struct {
	m      Map
	choose Choose
	check  func() error // of the map's own books
	model  map[int]uint64
	stamp  uint64 // the next value
	walks  []*walk
	budget int // calls that the bodies of loops may still make
}

// walk is an iteration that is under way.
type walk struct {
	whole   map[int]bool // the keys that have been there since it began: whether they came
	cleared bool
}

// New returns a machine for an empty map. check may be nil.
func New(m Map, choose Choose, check func() error) *Machine {
	if check == nil {
		check = func() error { return nil }
	}
	return &Machine{m: m, choose: choose, check: check, model: map[int]uint64{}}
}

// Step makes one call, or several of one kind.
func (c *Machine) Step() error {
	c.budget = 200
	if err := c.call(); err != nil {
		return err
	}
	if c.m.Len() != len(c.model) {
		return fmt.Errorf("%d entries by Len, want %d", c.m.Len(), len(c.model))
	}
	return c.check()
}

// End compares the whole map with the model and closes it.
func (c *Machine) End() error {
	defer c.m.Close()
	for k := range keys {
		if err := c.get(k); err != nil {
			return err
		}
	}
	c.budget = 0
	return c.iterate()
}

func (c *Machine) key() int { return c.choose("key", keys) }

func (c *Machine) call() error {
	switch c.choose("call", 16) {
	case 0, 1:
		return c.put(c.key())
	case 2:
		return c.putPtr(c.key())
	case 3, 4: // runs make the map grow and shrink
		for k, n := c.key(), c.choose("run", 100); n > 0; k, n = (k+1)%keys, n-1 {
			if err := c.put(k); err != nil {
				return err
			}
		}
	case 5, 6, 7:
		for k, n := c.key(), c.choose("run", 150); n > 0; k, n = (k+1)%keys, n-1 {
			if err := c.delete(k); err != nil {
				return err
			}
		}
	case 8:
		return c.delete(c.key())
	case 9:
		return c.get(c.key())
	case 10, 11, 12:
		if len(c.walks) < 3 {
			return c.iterate()
		}
	case 13:
		c.m.Reserve(c.choose("reserve", keys))
	case 14: // what is added and deleted at once leaves only traces
		for k, n := c.key(), c.choose("churn", 100); n > 0; k, n = (k+7)%keys, n-1 {
			if err := errors.Join(c.put(k), c.delete(k)); err != nil {
				return err
			}
		}
	case 15:
		if c.choose("really clear", 8) == 0 {
			c.m.Clear()
			clear(c.model)
			for _, w := range c.walks {
				clear(w.whole)
				w.cleared = true
			}
		}
	}
	return nil
}

func (c *Machine) put(k int) error {
	c.stamp++
	c.m.Put(k, valueOf(c.stamp))
	c.model[k] = c.stamp
	return c.get(k)
}

func (c *Machine) putPtr(k int) error {
	c.stamp++
	p, added := c.m.PutPtr(k)
	old, there := c.model[k]
	if added == there {
		return fmt.Errorf("PutPtr(%d): added %v, and the key was there: %v", k, added, there)
	}
	if added && *p != (Value{}) || !added && *p != valueOf(old) {
		return fmt.Errorf("PutPtr(%d): a value of %v, want %d", k, *p, old)
	}
	*p = valueOf(c.stamp)
	c.model[k] = c.stamp
	return c.get(k)
}

func (c *Machine) get(k int) error {
	v, ok := c.m.Get(k)
	want, there := c.model[k]
	if ok != there || ok && v != valueOf(want) || !ok && v != (Value{}) {
		return fmt.Errorf("Get(%d): %d, %v, want %d, %v", k, v[0], ok, want, there)
	}
	if p := c.m.GetPtr(k); (p != nil) != there || there && *p != valueOf(want) {
		return fmt.Errorf("GetPtr(%d): %p, want %d, %v", k, p, want, there)
	}
	return nil
}

func (c *Machine) delete(k int) error {
	_, there := c.model[k]
	if found := c.m.Delete(k); found != there {
		return fmt.Errorf("Delete(%d): %v, want %v", k, found, there)
	}
	delete(c.model, k)
	for _, w := range c.walks {
		delete(w.whole, k)
	}
	return c.get(k)
}

// iterate runs a loop whose body makes other calls, and holds it to the rules of Go's map.
func (c *Machine) iterate() error {
	w := &walk{whole: map[int]bool{}}
	for k := range c.model {
		w.whole[k] = false
	}
	c.walks = append(c.walks, w)
	defer func() { c.walks = c.walks[:len(c.walks)-1] }()
	every, stop := 1+c.choose("every", 8), -1
	if c.choose("stop", 8) == 0 {
		stop = c.choose("after", 100)
	}
	came := 0
	for k, v := range c.m.All() {
		n, err := v.number()
		want, there := c.model[k]
		switch seen, whole := w.whole[k]; {
		case err != nil:
			return fmt.Errorf("All: %d: %w", k, err)
		case w.cleared:
			return fmt.Errorf("All: %d after Clear", k)
		case !there:
			return fmt.Errorf("All: %d is not in the map", k)
		case n != want:
			return fmt.Errorf("All: %d has %d, want %d", k, n, want)
		case seen:
			return fmt.Errorf("All: %d comes twice", k)
		case whole:
			w.whole[k] = true
		}
		if came == stop {
			return nil
		}
		if came++; came%every == 0 && c.budget > 0 {
			c.budget--
			if err := c.call(); err != nil {
				return fmt.Errorf("in a loop: %w", err)
			}
		}
	}
	for _, k := range slices.Sorted(maps.Keys(w.whole)) {
		if !w.whole[k] {
			return fmt.Errorf("All: %d has not come", k)
		}
	}
	return nil
}
