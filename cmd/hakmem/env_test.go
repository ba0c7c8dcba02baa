package main

import (
	"regexp"
	"strings"
	"testing"
)

// TestEnv runs the program with a malformed setting.
func TestEnv(t *testing.T) {
	c := thisProgram(t, "env")
	env, _ := cleanEnv(c.Env)
	c.Env = append(env, "HAKMEM_MODE=minimal", "HAKMEM_REFILL=many", "HAKMEM_GAURD=1", "HAKMEM_CAP_MID=8")
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"HAKMEM_MODE", "HAKMEM_EMPTY_REUSE", "minimal|fast|balanced|learning|research", "HAKMEM_EVO=auto", "HAKMEM_ELO=real", "PROBLEMS", `"many"`, "HAKMEM_GAURD", "0|1|1/N"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if !regexp.MustCompile(`(?m)^HAKMEM_MAG_MID_BLOCKS +8 .*\(alias HAKMEM_CAP_MID\)$`).Match(out) {
		t.Errorf("HAKMEM_MAG_MID_BLOCKS is not what its alias says, or the alias is not named:\n%s", out)
	}
	for mode, want := range map[string]string{"minimal": "HAKMEM_MAG_BLOCKS=16 ", "balanced": "the defaults"} {
		if !regexp.MustCompile(`(?m)^` + mode + ` +` + want).Match(out) {
			t.Errorf("mode %s: no %q in\n%s", mode, want, out)
		}
	}
}
