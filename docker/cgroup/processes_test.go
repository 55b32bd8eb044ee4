package cgroup

import (
	"testing"

	"github.com/effiscale/effiscale/knowledge"
)

// Row 118: what a JVM may take at its first load is in its maps: the writable part of the heap, or
// all of a small one. Class space, code and the arenas of threads are no heap.
func TestRow118JavaHeap(t *testing.T) {
	const others = `800000000-840000000 ---p 00000000 00:00 0
55caeca34000-55caeca35000 r--p 00000000 00:2d 12 /usr/lib/jvm/java-17-openjdk-amd64/bin/java
7f0c90000000-7f0c90021000 rw-p 00000000 00:00 0
7f0c90021000-7f0c94000000 ---p 00000000 00:00 0
7f0cb0000000-7f0cbfa00000 rw-p 00000000 00:00 0
`
	for _, c := range []struct {
		name, maps string
		want       knowledge.Bytes
	}{
		{"G1, 6028 MiB", `687400000-69f000000 rw-p 00000000 00:00 0
69f000000-7ff800000 ---p 00000000 00:00 0
7ff800000-7ffb00000 rw-p 00000000 00:00 0
7ffb00000-7ffb75000 rw-p 00c0b000 00:2d 13 /usr/lib/jvm/java-17-openjdk-amd64/lib/server/classes.jsa
7ffb75000-7ffc00000 rw-p 00000000 00:00 0
`, 384 * knowledge.MiB},
		{"Serial, 126 MiB", `f8200000-f84a0000 rw-p 00000000 00:00 0
f84a0000-fac00000 ---p 00000000 00:00 0
fac00000-fb160000 rw-p 00000000 00:00 0
fb160000-100000000 ---p 00000000 00:00 0
`, 126 * knowledge.MiB},
		{"no heap", "", 0},
		{"a program at a fixed address", "00400000-00500000 rw-p 00000000 00:2d 14 /bin/program\n", 0},
		{"garbage", "x-y rw-p 0 0 0\nffff-0 rw-p 0 0 0\n0 -\n", 0},
	} {
		if got, _ := javaHeap(c.maps + others); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	const g1 = "687400000-69f000000 rw-p 0 0:0 0\n69f000000-800000000 ---p 0 0:0 0\n"
	if _, planned := javaHeap(g1 + others); planned != 6028*knowledge.MiB {
		t.Errorf("a heap of %s is planned", planned)
	}
}
