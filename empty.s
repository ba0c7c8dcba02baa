// This file lets the package declare a function without a body (getm_go126.go).
