package testkit

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestMain(m *testing.M) { Main(m) }

var (
	_ = Child("passes", func(string) error { return nil })
	_ = Child("not reached", func(string) error { fmt.Println(NotReached); return nil })
	_ = Child("fails", func(arg string) error { return errors.New("it failed over " + arg) })
	_ = Child("fails at length", func(string) error { return errors.New(strings.Repeat("long ", 1000)) })
	_ = Child("panics", func(string) error { panic("it panicked") })
	_ = Child("settings", func(arg string) error {
		var settings []string
		for _, v := range os.Environ() {
			if strings.HasPrefix(v, "HAKMEM_") {
				settings = append(settings, v)
			}
		}
		if got := strings.Join(settings, " "); got != arg {
			return fmt.Errorf("settings %q, want %q", got, arg)
		}
		return nil
	})
)

// failures is a testing.TB that keeps the texts of its failures.
type failures struct {
	testing.TB
	text string
}

func (*failures) Helper()                          {}
func (f *failures) Errorf(format string, a ...any) { f.text += fmt.Sprintf(format, a...) }

func TestInChild(t *testing.T) {
	t.Setenv("HAKMEM_REFILL", "7") // must not reach the child
	for _, x := range []struct {
		name, arg string
		settings  []string
		want      string // part of the text of the failure; "" if the test does not fail
		reached   bool
	}{
		{"passes", "", nil, "", true},
		{"not reached", "", nil, "", false},
		{"fails", "a:b", nil, "it failed over a:b", true},
		{"fails", "x", []string{"HAKMEM_MODE=minimal"}, "fails x [HAKMEM_MODE=minimal]: exit status 1", true},
		{"fails at length", "", nil, "long \n...", true},
		{"panics", "", nil, "it panicked", true},
		{"settings", "", nil, "", true},
		{"settings", "HAKMEM_A=1 HAKMEM_B=2", []string{"HAKMEM_A=1", "HAKMEM_B=2"}, "", true},
		{"no such", "", nil, `there is no case "no such"`, true},
	} {
		f := &failures{}
		reached := InChild(f, x.name, x.arg, x.settings...)
		if reached != x.reached || (f.text == "") != (x.want == "") || !strings.Contains(f.text, x.want) {
			t.Errorf("%s %s %v: reached %v, failed with %q; want %v, %q", x.name, x.arg, x.settings, reached, f.text, x.reached, x.want)
		}
		if len(f.text) > 4200 {
			t.Errorf("%s: a failure of %d bytes", x.name, len(f.text))
		}
	}
}

func TestChildTwice(t *testing.T) {
	if v := fmt.Sprint(PanicOf(func() { Child("passes", nil) })); !strings.Contains(v, `two cases "passes"`) {
		t.Errorf("a second case of one name: %s", v)
	}
}
