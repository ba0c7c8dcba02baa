module github.com/hakmem/hakmem/bench/cgomalloc

go 1.26.0
