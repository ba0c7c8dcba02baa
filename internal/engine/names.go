package engine

import (
	"runtime"
	"strings"
)

// This file knows the names of hakmem's own functions, so that stack traces can tell them from the
// program's. It has no state that changes.

// publicPrefix begins the name of every function of the public package. enginePrefix begins the
// name of every function of this one. Both are derived from the name of a function, so that they
// are right in a fork and in a vendored copy, too.
var publicPrefix, enginePrefix = ownPrefixes(thisFunction())

// thisFunction returns its own full name.
func thisFunction() string {
	pc, _, _, _ := runtime.Caller(0)
	return runtime.FuncForPC(pc).Name()
}

// ownPrefixes returns publicPrefix and enginePrefix, given the name of a function of this package.
// The public package is the one whose folder contains this package as internal/engine. If the name
// shows no such folder (a tool that makes names unreadable may have been at work), the prefix of
// the public package is "": any function may be the public package's.
func ownPrefixes(function string) (public, engine string) {
	slash := strings.LastIndexByte(function, '/') + 1
	name, _, _ := strings.Cut(function[slash:], ".")
	path := function[:slash] + name
	root, ok := strings.CutSuffix(path, "/internal/engine")
	if !ok {
		return "", path + "."
	}
	// The linker writes a dot as %2e in the last element of a path, and nowhere else.
	slash = strings.LastIndexByte(root, '/') + 1
	return root[:slash] + strings.ReplaceAll(root[slash:], ".", "%2e") + ".", path + "."
}

// Own reports whether a function, by its name, belongs to the public package or to this one.
func Own(function string) bool {
	return strings.HasPrefix(function, publicPrefix) || strings.HasPrefix(function, enginePrefix)
}
