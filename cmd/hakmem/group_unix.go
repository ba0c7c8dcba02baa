//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// ownGroup makes the end of c's context also end the processes that c has started. Otherwise a
// program that strace or perf runs would live on.
func ownGroup(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
}
