// Package section has a test that says whether its build takes the fast section. TestSectionCalls of internal/engine
// makes builds of many kinds of it, looks into their object code and runs them. (go test -fuzz, one of the
// kinds, builds tests only.)
package section
