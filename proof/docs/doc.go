// Package docs holds the test of the documents: README.md, the pages in docs and the reasons of
// .ci/coverage name only files, functions, settings, build tags, commands, flags and sections that
// exist. It has no code of its own.
//
//	go test ./proof/docs
//
// docs/ledger.md is the history of experiments, with the names of their time: only its links are
// checked.
package docs
