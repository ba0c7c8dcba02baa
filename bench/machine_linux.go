package bench

import (
	"os"
	"strings"
)

func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return unknown
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return unknown // arm64 kernels report no model name
}

func kernel() string {
	return firstLine("/proc/sys/kernel/osrelease")
}

// hugePages reports whether the kernel backs plain memory with huge pages, which changes resident
// memory and page faults.
func hugePages() string {
	_, choice, ok := strings.Cut(firstLine("/sys/kernel/mm/transparent_hugepage/enabled"), "[")
	if !ok {
		return unknown
	}
	choice, _, _ = strings.Cut(choice, "]")
	return choice
}

func firstLine(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return unknown
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}
