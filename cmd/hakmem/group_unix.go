//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// ownGroup makes the end of c's context end the processes that c has started as
// well: what strace or perf runs would live on.
func ownGroup(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
}
