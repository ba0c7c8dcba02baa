package workout

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hakmem/hakmem"
)

// TestTolerate: running out of memory is no error, everything else is.
func TestTolerate(t *testing.T) {
	failed := errors.New("failed")
	oom := &hakmem.OutOfMemoryError{}
	for _, x := range []struct {
		do   func() error
		want string
	}{
		{func() error { return nil }, ""},
		{func() error { panic(oom) }, ""},
		{func() error { return failed }, "failed"},
		{func() error { return oom }, oom.Error()},
		{func() error { panic(failed) }, "panic: failed"},
		{func() error { panic(7) }, "panic: 7"},
	} {
		err := Tolerate(x.do)
		if (err == nil) != (x.want == "") || err != nil && err.Error() != x.want {
			t.Errorf("%v, want %q", err, x.want)
		}
	}
}

// TestTogether: each call has its number, and no error of a call is lost.
func TestTogether(t *testing.T) {
	err := Together(4, func(g uint64) error {
		switch g {
		case 0:
			return nil
		case 1:
			panic(&hakmem.OutOfMemoryError{})
		}
		return fmt.Errorf("call %d", g)
	})
	if text := fmt.Sprint(err); strings.Contains(text, "panic") || !strings.Contains(text, "call 2") || !strings.Contains(text, "call 3") {
		t.Errorf("%s, want the errors of calls 2 and 3", text)
	}
}
