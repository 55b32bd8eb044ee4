package ring

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"pgregory.net/rapid"
)

// id is a node's id as it is in life: 32 hexadecimal digits.
func id(i int) knowledge.NodeID {
	a, b := mix(uint64(i)), mix(uint64(i)<<32)
	var raw [16]byte
	for k := range 8 {
		raw[k], raw[8+k] = byte(a>>(8*k)), byte(b>>(8*k))
	}
	return knowledge.NodeID(hex.EncodeToString(raw[:]))
}

func ids(from, n int) []Node {
	out := make([]Node, n)
	for i := range out {
		out[i] = Node{ID: id(from + i), Eligible: true}
	}
	return out
}

func keys(n int) []knowledge.ServiceKey {
	out := make([]knowledge.ServiceKey, n)
	for i := range out {
		out[i] = knowledge.ServiceKey(fmt.Sprintf("shop-%d/web", i))
	}
	return out
}

func drawNodes(t *rapid.T) []Node {
	return rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) Node {
		return Node{ID: id(rapid.IntRange(0, 40).Draw(t, "node")), Eligible: rapid.Bool().Draw(t, "eligible")}
	}), 0, 12, func(n Node) knowledge.NodeID { return n.ID }).Draw(t, "nodes")
}

func drawKey(t *rapid.T) knowledge.ServiceKey {
	return knowledge.ServiceKey(rapid.String().Draw(t, "key"))
}

func without(nodes []Node, id knowledge.NodeID) []Node {
	return slices.DeleteFunc(slices.Clone(nodes), func(n Node) bool { return n.ID == id })
}

// The dumb twin: all members sorted by their place, as the package comment has it.
func twin(nodes []Node, key knowledge.ServiceKey) []knowledge.NodeID {
	eligible := slices.DeleteFunc(slices.Clone(nodes), func(n Node) bool { return !n.Eligible })
	if len(eligible) > 0 {
		nodes = eligible
	}
	p := partitionOf(key)
	var out []knowledge.NodeID
	for _, n := range nodes {
		out = append(out, n.ID)
	}
	slices.SortFunc(out, func(a, b knowledge.NodeID) int {
		x, y := newOrder(hash(string(a))), newOrder(hash(string(b)))
		switch i, k := x.place(p), y.place(p); {
		case i < k, i == k && (a < b) == (i%2 == 0):
			return -1
		}
		return 1
	})
	return out
}

func TestOwners(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes, key := drawNodes(t), drawKey(t)
		r, all := New(nodes), twin(nodes, key)
		if r.Len() != len(all) || len(r.Members()) != len(all) {
			t.Fatalf("%d members, want %d", r.Len(), len(all))
		}
		n := rapid.IntRange(-1, len(all)+2).Draw(t, "n")
		want := all[:min(max(n, 0), len(all))]
		got := r.Owners([]knowledge.NodeID{"before"}, key, n)
		if got[0] != "before" || !slices.Equal(got[1:], want) {
			t.Fatalf("owners %v, want %v", got[1:], want)
		}
		if o := r.Owner(key); len(all) == 0 && o != "" || len(all) > 0 && o != all[0] {
			t.Fatalf("owner %q of %v", o, all)
		}
		for i := range 41 {
			if g, w := r.Rank(key, id(i), n), slices.Index(want, id(i)); g != w {
				t.Fatalf("rank %d, want %d", g, w)
			}
		}
	})
}

func TestAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := drawNodes(t)
		other := rapid.Permutation(append(slices.Clone(nodes), nodes...)).Draw(t, "again")
		other = append(other, Node{Eligible: true}) // nobody
		a, b := New(nodes), New(other)
		if a.Checksum() != b.Checksum() || !slices.Equal(a.Members(), b.Members()) || !slices.Equal(a.table, b.table) {
			t.Fatalf("%v and %v", a.Members(), b.Members())
		}
		if ChecksumOf(nodes) != a.Checksum() || ChecksumOf(other) != a.Checksum() {
			t.Fatal("the checksum beforehand is another one")
		}
	})
}

// When a member goes, only its services move, each to its second owner, and the
// order of all others stays. Read backwards, it is what happens when one comes.
func TestMinimalMovement(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := ids(rapid.IntRange(0, 1000).Draw(t, "first"), rapid.IntRange(2, 30).Draw(t, "count"))
		gone := rapid.SampledFrom(nodes).Draw(t, "gone").ID
		before, after := New(nodes), New(without(nodes, gone))
		if before.Checksum() == after.Checksum() {
			t.Fatal("the same checksum of other members")
		}
		for _, key := range keys(30) {
			was := before.Owners(nil, key, len(nodes))
			is := after.Owners(nil, key, len(nodes))
			if left := slices.DeleteFunc(was, func(id knowledge.NodeID) bool { return id == gone }); !slices.Equal(left, is) {
				t.Fatalf("%s: %v became %v", key, left, is)
			}
		}
	})
}

func TestEligible(t *testing.T) {
	for _, c := range []struct {
		name  string
		nodes []Node
		want  []knowledge.NodeID
	}{
		{"nobody", nil, nil},
		{"without an id", []Node{{Eligible: true}}, nil},
		{"one of two", []Node{{"a", false}, {"b", true}}, []knowledge.NodeID{"b"}},
		{"none of two: both", []Node{{"b", false}, {"a", false}}, []knowledge.NodeID{"a", "b"}},
		{"told twice", []Node{{"a", false}, {"b", true}, {"a", true}}, []knowledge.NodeID{"a", "b"}},
	} {
		if got := New(c.nodes).Members(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestGolden: versions of the daemon that differ here disagree on every owner.
func TestGolden(t *testing.T) {
	r := New(ids(0, 5))
	got := fmt.Sprintf("%016x", r.Checksum())
	for _, key := range []knowledge.ServiceKey{"", "web", "shop/web", "größe"} {
		for _, o := range r.Owners(nil, key, 5) {
			got += " " + string(o[:2])
		}
	}
	const want = "86ae1a12fc3f6932 af ca ed ce c1 ed ca c1 ce af c1 ca ed af ce ed ca af ce c1"
	if got != want {
		t.Errorf("got %q, want %q: owners of an earlier version's cluster", got, want)
	}
}

func TestOrderIsUndone(t *testing.T) {
	for i := range 20 {
		o := newOrder(mix(uint64(i)))
		var seen [partitions]bool
		for place := range partitions {
			p := o.partition(uint16(place))
			if seen[p] || o.place(p) != uint16(place) {
				t.Fatalf("order %d, place %d: partition %d is at %d", i, place, p, o.place(p))
			}
			seen[p] = true
		}
	}
}

// loads are max/mean of what each node owns.
func loads(r *Ring, keys []knowledge.ServiceKey, rank int) (worst float64) {
	load, dst := map[knowledge.NodeID]int{}, make([]knowledge.NodeID, 0, depth)
	for _, key := range keys {
		o := r.Owners(dst, key, rank+1)[rank]
		load[o]++
		worst = max(worst, float64(load[o]))
	}
	return worst / float64(len(keys)) * float64(r.Len())
}

// TestBalance prints how evenly services spread, as owned and as the first warm one.
// The bounds are the mean of the largest of n draws (Poisson of the services, and of
// 65,536/n partitions) and six hundredths.
func TestBalance(t *testing.T) {
	for _, c := range []struct {
		nodes, each int
		most        float64
	}{
		{10, 100, 1.25}, {10, 1000, 1.11}, {100, 100, 1.34}, {100, 1000, 1.19}, {1000, 100, 1.58}, {1000, 1000, 1.49},
	} {
		first, second := 0.0, 0.0
		all := keys(c.nodes * c.each)
		const runs = 2
		for run := range runs {
			r := New(ids(run*c.nodes, c.nodes))
			first += loads(r, all, 0) / runs
			second += loads(r, all, 1) / runs
		}
		t.Logf("%4d nodes, %4d services each: max/mean %.2f, of the second owner %.2f", c.nodes, c.each, first, second)
		if first > c.most || second > c.most {
			t.Errorf("%d nodes, %d services each: more than %.2f", c.nodes, c.each, c.most)
		}
	}
}

// A low id is no advantage: the lower half of ids owns half of the partitions (sigma
// of 65,536 is 0.2 %).
func TestNoPreference(t *testing.T) {
	nodes := ids(0, 400)
	slices.SortFunc(nodes, func(a, b Node) int { return cmp.Compare(a.ID, b.ID) })
	r, low := New(nodes), 0
	for p := range partitions {
		if int(r.table[p*r.width]) < len(nodes)/2 {
			low++
		}
	}
	if share := float64(low) / partitions; share < 0.49 || share > 0.51 {
		t.Errorf("the lower half of ids owns %.3f", share)
	}
}

// TestScale: what a change costs at 1000 nodes with 100,000 services.
func TestScale(t *testing.T) {
	nodes, all := ids(0, 1000), keys(100_000)
	dst := make([]knowledge.NodeID, 0, 3)
	ring, lookups := time.Hour, time.Hour
	for range 5 { // the best: the machine is shared
		start := time.Now()
		r := New(nodes[1:])
		made := time.Now()
		for _, key := range all {
			dst = r.Owners(dst[:0], key, 3)
		}
		ring, lookups = min(ring, made.Sub(start)), min(lookups, time.Since(made))
	}
	t.Logf("1000 nodes: a new ring in %v, three owners of each of 100,000 services in %v", ring, lookups)
	if ring+lookups > time.Second {
		t.Error("not a matter of milliseconds")
	}
}

func TestOwnersAllocateNothing(t *testing.T) {
	r, dst := New(ids(0, 50)), make([]knowledge.NodeID, 0, 50)
	if n := testing.AllocsPerRun(10, func() {
		dst = r.Owners(dst[:0], "shop/web", 50)
		_ = r.Rank("shop/web", dst[49], 50)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkOwners(b *testing.B) {
	all := keys(1 << 12)
	for _, n := range []int{3, 10, 100, 1000} {
		b.Run(fmt.Sprint(n, " nodes"), func(b *testing.B) {
			r, dst := New(ids(0, n)), make([]knowledge.NodeID, 0, 3)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				dst = r.Owners(dst[:0], all[i&(len(all)-1)], 3)
				i++
			}
		})
	}
}

func BenchmarkChecksumOf(b *testing.B) {
	nodes := ids(0, 1000)
	for b.Loop() {
		ChecksumOf(nodes)
	}
}

func BenchmarkNew(b *testing.B) {
	for _, n := range []int{3, 1000} {
		b.Run(fmt.Sprint(n, " nodes"), func(b *testing.B) {
			nodes := ids(0, n)
			b.ReportAllocs()
			for b.Loop() {
				New(nodes)
			}
		})
	}
}
