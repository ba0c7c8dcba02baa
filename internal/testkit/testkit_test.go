package testkit

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"
	"time"
)

func TestPanicAs(t *testing.T) {
	want := &fs.PathError{Op: "open", Path: "p", Err: fs.ErrNotExist}
	for _, x := range []struct {
		do      func()
		e       *fs.PathError
		instead string
	}{
		{func() { panic(want) }, want, ""},
		{func() { panic(fmt.Errorf("wrapped: %w", want)) }, want, ""},
		{func() { panic(errors.New("another")) }, nil, "it panicked with *errors.errorString: another"},
		{func() { panic(7) }, nil, "it panicked with int: 7"},
		{func() {}, nil, "it returned"},
	} {
		if e, instead := PanicAs[*fs.PathError](x.do); e != x.e || instead != x.instead {
			t.Errorf("%v, %q; want %v, %q", e, instead, x.e, x.instead)
		}
	}
}

func TestCopyOf(t *testing.T) {
	a := [2]int{1, 2}
	b := CopyOf(&a)
	if *b != a || b == &a {
		t.Errorf("%v at %p of %v at %p", *b, b, a, &a)
	}
}

func TestStopped(t *testing.T) {
	var c Stopped
	c.AfterFunc(0, func() { t.Error("a stopped clock has run a timer") })
	if c.Now() != 0 {
		t.Errorf("it is %v", c.Now())
	}
}

// TestClock checks that timers run in the order of their times, including those that a timer sets,
// and that none runs early or twice.
func TestClock(t *testing.T) {
	var c Clock
	var ran []string
	at := func(name string, d time.Duration, then func()) {
		c.AfterFunc(d, func() {
			ran = append(ran, fmt.Sprint(name, " ", c.Now()))
			if then != nil {
				then()
			}
		})
	}
	at("late", 10*time.Second, nil)
	at("second", 3*time.Second, nil)
	at("first", time.Second, func() { at("third", 4*time.Second, nil) })
	c.Advance(9 * time.Second)
	if want := []string{"first 1s", "second 3s", "third 5s"}; !slices.Equal(ran, want) || c.Now() != 9*time.Second || c.Pending() != 1 {
		t.Errorf("%q, want %q; it is %v, %d timers", ran, want, c.Now(), c.Pending())
	}
	c.Skip(time.Minute)
	if len(ran) != 3 {
		t.Errorf("Skip ran %q", ran[3:])
	}
	c.Advance(0)
	if want := "late 1m9s"; len(ran) != 4 || ran[3] != want {
		t.Errorf("%q, want %q at last", ran, want)
	}
}
