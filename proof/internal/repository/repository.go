// Package repository finds the source tree on which the commands of proof work.
package repository

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// Root returns the directory of the repository, which contains go.work.
func Root() (string, error) {
	out, err := exec.Command("go", "env", "GOWORK").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOWORK: %w", err)
	}
	file := strings.TrimSpace(string(out))
	if file == "" || file == "off" {
		return "", errors.New("no go.work here: run it inside the repository, without GOWORK=off")
	}
	return filepath.Dir(file), nil
}
