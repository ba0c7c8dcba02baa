package environments_test

// onThisProcessor: see systemservice_linux_amd64_test.go.
var onThisProcessor []uintptr
