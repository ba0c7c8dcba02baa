// This file lets the package declare functions without a body (clock_runtime.go).
