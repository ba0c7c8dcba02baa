package policy

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/hakmem/hakmem/internal/cgroup"
)

// This file makes settings from the environment and from a program's Options. It has no state.

// SettingError is a setting whose value could not be used. The default (or the mode's value) is in
// force instead.
type SettingError struct{ Name, Value, Remedy string }

func (e *SettingError) Error() string {
	return "hakmem: setting " + e.Name + ": cannot use the value " + strconv.Quote(e.Value) + ": " + e.Remedy
}

// lookupFunc finds the value of a variable, as os.LookupEnv does.
type lookupFunc = func(name string) (value string, ok bool)

// given returns the value that lookup has for g, or "" for none, and the name under which it was
// found. It is an error if the setting's name and its alias have different values.
func (g *Setting) given(lookup lookupFunc) (name, value string, err *SettingError) {
	find := func(name string) string {
		if v, ok := lookup(name); ok {
			return v
		}
		return ""
	}
	value = find(g.Name)
	if g.Alias == "" {
		return g.Name, value, nil
	}
	former := find(g.Alias)
	switch {
	case former == "":
		return g.Name, value, nil
	case value == "":
		return g.Alias, former, nil
	case !g.same(value, former):
		return "", "", &SettingError{g.Name, value, g.Alias + ", an alias, has the value " + strconv.Quote(former) + ": unset " + g.Alias}
	}
	return g.Name, value, nil
}

// same reports whether a and b are spellings of one value.
func (g *Setting) same(a, b string) bool {
	x, bad := g.parse("", a)
	y, worse := g.parse("", b)
	return a == b || bad == nil && worse == nil && x == y
}

// parse reads the value v, which was given under this name.
func (g *Setting) parse(name, v string) (int64, *SettingError) {
	bad := func(remedy string) (int64, *SettingError) { return 0, &SettingError{name, v, remedy} }
	if g.Kind == Switch {
		switch strings.ToLower(v) {
		case "1", "on", "yes", "true":
			return 1, nil
		case "0", "off", "no", "false":
			return 0, nil
		}
		return bad("use 0, 1, off or on")
	}
	if g.Kind == Choice {
		if i := slices.Index(g.Choices, strings.ToLower(v)); i >= 0 {
			return int64(i), nil
		}
		words := "use one of " + strings.Join(g.Choices, ", ")
		if g.Also == nil {
			return bad(words)
		}
		n, err := g.Also.parse(v)
		if err != nil {
			return bad(words + ", or " + err.Error())
		}
		return n, nil
	}
	if g.Kind == Decimal {
		// Rounding is left to thousandths: a value that has more digits is refused.
		x, err := strconv.ParseFloat(v, 64)
		n := math.Round(x * 1000)
		if err != nil || !(math.Abs(n-x*1000) < 1e-6) || n < float64(g.Min) || n > float64(g.Max) {
			return bad(fmt.Sprintf("use a number from %g to %g with at most three digits behind the point", float64(g.Min)/1000, float64(g.Max)/1000))
		}
		return int64(n), nil
	}
	if g.Kind == Rate {
		text, ratio := strings.CutPrefix(v, "1/")
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 || n > g.Max || ratio && n == 0 || !ratio && n > 1 {
			return bad("use 1/N with a whole number N, 1 for every block, or 0 for none")
		}
		return n, nil
	}
	if percent, ok := g.share(v); ok {
		limit, limited := containerLimit()
		if !limited {
			return 0, nil // as much as there is
		}
		// Divided first: the product may have more than 64 bits.
		return min(int64(min(limit/100, 1<<62/100)*percent), g.Max), nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil && g.Container {
		return bad("use a whole number from " + strconv.FormatInt(g.Min, 10) + " to " + strconv.FormatInt(g.Max, 10) + ", or cgroup, or a share of the container's limit from 1% to 100%")
	}
	if err != nil || n < g.Min || n > g.Max {
		return bad("use a whole number from " + strconv.FormatInt(g.Min, 10) + " to " + strconv.FormatInt(g.Max, 10))
	}
	return n, nil
}

// containerLimit is the memory limit of the container. A variable for tests.
var containerLimit = cgroup.Limit

// cgroupPercent is the share of the container's limit that the word cgroup stands for. The rest is
// for the program's code and stacks, for Go's heap, and for what the kernel charges to the container:
// page tables and cached files.
const cgroupPercent = 85

// share reads v as a share of the container's limit: the word cgroup, or a number with a percent
// sign.
func (g *Setting) share(v string) (percent uint64, ok bool) {
	if !g.Container {
		return 0, false
	}
	if strings.ToLower(v) == "cgroup" {
		return cgroupPercent, true
	}
	number, ok := strings.CutSuffix(v, "%")
	percent, err := strconv.ParseUint(number, 10, 64)
	return percent, ok && err == nil && percent >= 1 && percent <= 100
}

// Build makes settings from a lookup of variables; os.LookupEnv is one. A value that cannot be used
// is reported and replaced by the mode's value.
func Build(lookup lookupFunc) (*Settings, []error) {
	s := &Settings{Fixed: Fixed{Mode: "balanced"}}
	var errs []error
	for i := range settings {
		g := &settings[i]
		name, value, conflict := g.given(lookup)
		if conflict != nil {
			errs = append(errs, conflict)
		}
		switch {
		case g.isMode(): // the first row of the table
			if value == "" {
				continue
			}
			mode, err := g.parse(name, value)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			s.Mode = g.Choices[mode]
			continue
		case g.Kind == Text:
			*g.text(s) = value
			continue
		}
		def, err := g.parse(g.Name, g.Default)
		if err != nil {
			panic(err) // the table itself is wrong
		}
		if v, ok := presets[s.Mode][g.Name]; ok {
			def = v
		}
		g.set(s, def)
		if value != "" {
			n, err := g.parse(name, value)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			g.set(s, n)
		}
	}
	if s.CommitMax < s.CommitMin {
		// If HAKMEM_COMMIT_MAX was not given, its default gives way without an error.
		if name, v, _ := Find("HAKMEM_COMMIT_MAX").given(lookup); v != "" {
			errs = append(errs, &SettingError{name, v, "use a value not below HAKMEM_COMMIT_MIN"})
		}
		s.CommitMax = s.CommitMin
	}
	if s.MemoryHard != 0 && s.MemoryHard < superslab {
		errs = append(errs, &SettingError{"HAKMEM_MEMORY_HARD", given("HAKMEM_MEMORY_HARD", s.MemoryHard, lookup), "use 0 for no limit, or at least 2097152"})
		s.MemoryHard = 0
	}
	if s.MemoryHard != 0 && s.MemorySoft > s.MemoryHard {
		errs = append(errs, &SettingError{"HAKMEM_MEMORY_SOFT", given("HAKMEM_MEMORY_SOFT", s.MemorySoft, lookup), "use a value not above HAKMEM_MEMORY_HARD"})
		s.MemorySoft = s.MemoryHard
	}
	return s, errs
}

// given returns the value of a setting for an error: the number, and the words by which it was given.
func given(name string, n int, lookup lookupFunc) string {
	text := strconv.Itoa(n)
	if _, v, _ := Find(name).given(lookup); v != "" && v != text {
		text = v + " = " + text
	}
	return text
}

// check returns an error if a number or a choice of s is out of its setting's range.
func (s *Settings) check() error {
	for i := range settings {
		g := &settings[i]
		if g.get == nil {
			continue
		}
		v, most := g.get(s), g.Max
		switch g.Kind {
		case Switch:
			continue
		case Choice:
			if g.Also != nil {
				if err := g.Also.check(v); err != nil {
					return &SettingError{g.Name, strconv.FormatInt(v, 10), err.Error()}
				}
				continue
			}
			most = int64(len(g.Choices)) - 1
		}
		if v < g.Min || v > most {
			return &SettingError{g.Name, strconv.FormatInt(v, 10), "use a number from " + strconv.FormatInt(g.Min, 10) + " to " + strconv.FormatInt(most, 10)}
		}
	}
	if s.CommitMax < s.CommitMin {
		return &SettingError{"HAKMEM_COMMIT_MAX", strconv.Itoa(s.CommitMax), "use a value not below HAKMEM_COMMIT_MIN, which is " + strconv.Itoa(s.CommitMin)}
	}
	return nil
}

// Load is Build over set and the process's environment. set has values by name, which override the
// environment. Load also reports variables that look like settings and are none.
func Load(set map[string]string) (*Settings, []error) {
	s, errs := Build(func(name string) (string, bool) {
		if g := Find(name); g != nil {
			if v, ok := set[g.Name]; ok {
				return v, true // for the alias, too
			}
		}
		return os.LookupEnv(name)
	})
	return s, append(errs, unknown(os.Environ())...)
}

// unknown reports the variables of the environment that look like settings and are none. Otherwise
// a setting whose name is spelled wrongly would have no effect, and nothing would say so.
func unknown(environ []string) (errs []error) {
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		// HAKMEM_TEST_ and HAKMEM_PROOF_ are for hakmem's own tests.
		if !strings.HasPrefix(name, "HAKMEM_") || strings.HasPrefix(name, "HAKMEM_TEST_") || strings.HasPrefix(name, "HAKMEM_PROOF_") {
			continue
		}
		if Find(name) == nil {
			errs = append(errs, &SettingError{name, value, "there is no such setting; `hakmem env` lists them"})
		}
	}
	return errs
}
