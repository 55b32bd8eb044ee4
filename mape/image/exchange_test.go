package image

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/profile"
)

const (
	mib    = knowledge.MiB
	image1 = knowledge.ImageKey("image1-command1")
)

var begin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// sealOf is a fake signature.
func sealOf(node knowledge.NodeID) func(knowledge.ImageKey, uint64, uint64, []byte) []byte {
	return func(key knowledge.ImageKey, epoch, version uint64, packed []byte) []byte {
		return fmt.Appendf(nil, "%s/%s/%d/%d/%d", key, node, epoch, version, len(packed))
	}
}

func sealed(p Copy) bool {
	return bytes.Equal(p.Seal, sealOf(p.Host)(p.Image, p.Epoch, p.Version, p.Packed))
}

// node is a set of images in virtual time.
type node struct {
	*Set
	now *time.Time
}

func newNode(id knowledge.NodeID, now *time.Time) node { return node{NewSet(id, sealOf(id)), now} }

// image finds or makes an image that no container uses.
func (n node) image(key knowledge.ImageKey) *Image {
	i := n.Use(*n.now, key)
	i.containers--
	return i
}

// work lets an image be observed for a minute and be written.
func (n node) work(key knowledge.ImageKey, cores float64, peak knowledge.Bytes) {
	now := *n.now
	i := n.image(key)
	if i.own.Version == 0 {
		i.own.Epoch -= uint64(publishAfter / time.Second)
	}
	i.Learn(func(p *profile.Profile) {
		p.AddCPU(now, cores, time.Minute, false)
		p.AddMemoryPeak(now, peak)
	})
	n.Pack(now, true)
}

// take gives one what another has, as it travels.
func (n node) take(t interface {
	Helper()
	Fatalf(string, ...any)
}, from node, most int) int {
	t.Helper()
	theirs := ReadDigests(n.Digests(*n.now))
	parts := from.CopiesFor(*from.now, theirs, most)
	size := 0
	for k := range parts {
		size += parts[k].size()
		if !sealed(parts[k]) {
			t.Fatalf("a seal that does not fit: %s", parts[k].Seal)
		}
	}
	if size > most {
		t.Fatalf("%d bytes, allowed were %d", size, most)
	}
	return n.mergeAll(t, parts)
}

func (n node) mergeAll(t interface {
	Helper()
	Fatalf(string, ...any)
}, parts []Copy) int {
	t.Helper()
	open := make([]*profile.Profile, len(parts))
	for k := range parts {
		p, err := parts[k].open()
		if err != nil {
			t.Fatalf("%v", err)
		}
		open[k] = p
	}
	return n.Merge(*n.now, Opened{parts, open})
}

// copiesHeld are all copies but the own ones that were not offered yet, in words.
func (n node) copiesHeld() string {
	var out []string
	for key, i := range n.images {
		n.eachCopy(*n.now, key, i, func(h Digest, c profile.Copy) {
			packed := i.published.packed
			if h.Host != n.self {
				packed = c.Profile.Marshal()
			}
			out = append(out, fmt.Sprintf("%v %x %s", h, packed, c.Seal))
		})
	}
	slices.Sort(out)
	return fmt.Sprint(out)
}

// Nodes that exchange what they know, in any order, in parts of any size, and more
// than once, know the same in the end.
func TestNodesComeToKnowTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := begin
		var nodes []node
		for n := range rapid.IntRange(2, 4).Draw(t, "nodes") {
			nodes = append(nodes, newNode(knowledge.NodeID(fmt.Sprint("node", n)), &now))
		}
		pick := rapid.SampledFrom(nodes)
		var old []Copy
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(1, 3600).Draw(t, "seconds")) * time.Second)
			a, b := pick.Draw(t, "a"), pick.Draw(t, "b")
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0, 1:
				a.work(knowledge.ImageKey(fmt.Sprint("image", rapid.IntRange(0, 3).Draw(t, "image"))),
					rapid.Float64Range(0.01, 8).Draw(t, "cores"), 100*mib)
			case 2:
				a.take(t, b, rapid.IntRange(0, 4000).Draw(t, "most"))
				all := ReadDigests(nil)
				old = append(old, b.CopiesFor(now, all, 1<<20)...)
			case 3: // late, in another order, and again
				rapid.Permutation(old).Draw(t, "late")
				a.mergeAll(t, old)
			}
		}
		for range len(nodes) {
			for _, a := range nodes {
				for _, b := range nodes {
					if a != b {
						a.take(t, b, 1<<20)
					}
				}
			}
		}
		for _, n := range nodes[1:] {
			if a, b := nodes[0].copiesHeld(), n.copiesHeld(); a != b {
				t.Fatalf("%s\n%s", a, b)
			}
			if Checksum(nodes[0].Digests(now)) != Checksum(n.Digests(now)) {
				t.Fatal("their sums differ")
			}
			if news := n.take(t, nodes[0], 1<<20); news != 0 {
				t.Fatalf("%d are news once more", news)
			}
		}
	})
}

// A host that lost its disk gets back what it knew: under a new id as another
// host's, under the old one as its own, once. What it learned since is not lost, and
// what it publishes from then on is newer for the others than what they had.
func TestALostDisk(t *testing.T) {
	now := begin
	a, peer := newNode("a", &now), newNode("peer", &now)
	for range 30 {
		now = now.Add(time.Minute)
		a.work(image1, 2, 200*mib)
	}
	peer.take(t, a, 1<<20)
	had := peer.images[image1].shared.Of("a").ObservedFor()
	now = now.Add(time.Hour)

	other := newNode("other", &now)
	if other.take(t, peer, 1<<20); other.images[image1] == nil || other.images[image1].shared.Of("a") == nil {
		t.Error("not under a new id")
	}
	again := newNode("a", &now)
	again.image(image1).Learn(func(p *profile.Profile) { p.AddCPU(now, 1, time.Minute, false) })
	again.images[image1].containers = 1
	again.Pack(now, true)
	since := again.images[image1].own.ObservedFor()
	for n := range 3 {
		if news := again.take(t, peer, 1<<20); (news == 1) != (n == 0) {
			t.Errorf("%d news the %d. time", news, n)
		}
		if got := again.images[image1].own.ObservedFor(); got != had+since {
			t.Errorf("observed for %s, want %s and %s", got, had, since)
		}
		again.Pack(now, true)
	}
	if again.images[image1].shared.Of("a") != again.images[image1].own {
		t.Error("its own part is not what it reads")
	}
	if peer.take(t, again, 1<<20) != 0 {
		t.Error("it publishes before it pulled")
	}
	now = now.Add(publishAfter)
	again.images[image1].dirty = true
	again.Pack(now, true)
	if peer.take(t, again, 1<<20) != 1 || peer.images[image1].shared.Of("a").ObservedFor() != had+since {
		t.Error("the peer does not take the new one")
	}
	// A disk that was set back: the same epoch, and the others have more of it.
	back := newNode("a", &now)
	i := back.image(image1)
	i.own.Epoch, i.own.Version = again.images[image1].own.Epoch, 1
	i.Learn(func(p *profile.Profile) { p.AddCPU(now, 1, time.Second, false) })
	if back.take(t, peer, 1<<20) != 1 || back.images[image1].own.ObservedFor() != had+since {
		t.Errorf("set back: %s", back.images[image1].own.ObservedFor())
	}
}

// A host's copy ends a month after it observed something, on all nodes, however
// often they give it to each other; a copy from the future is not taken.
func TestAHostThatIsGoneEnds(t *testing.T) {
	now := begin
	gone, a, b := newNode("gone", &now), newNode("a", &now), newNode("b", &now)
	gone.work(image1, 1, mib)
	a.take(t, gone, 1<<20)
	for range 29 {
		now = now.Add(24 * time.Hour)
		a.Forget(now)
		b.take(t, a, 1<<20)
		a.take(t, b, 1<<20)
	}
	if b.images[image1].shared.Of("gone") == nil {
		t.Fatal("it ended early")
	}
	late := ReadDigests(nil)
	parts := a.CopiesFor(now, late, 1<<20)
	now = now.Add(25 * time.Hour)
	if got := b.copiesHeld(); got != "[]" {
		t.Errorf("published: %s", got)
	}
	b.Forget(now)
	if b.mergeAll(t, parts) != 0 || b.images[image1].shared.Of("gone") != nil {
		t.Error("it does not end")
	}
	now = begin.Add(-25 * time.Hour)
	if b.mergeAll(t, parts) != 0 {
		t.Error("taken from the future")
	}
}

// partOf is what a host may say of an image.
func copyOf(image knowledge.ImageKey, host knowledge.NodeID, at time.Time, version uint64) Copy {
	p := profile.New()
	p.Epoch, p.Version = 1, version
	p.AddCPU(at, 1, time.Minute, false)
	return Copy{Image: image, Host: host, Epoch: 1, Version: version, Packed: p.Marshal(), Seal: []byte("seal")}
}

// Malformed copies are rejected, and the ones beside them are not.
func TestMalformedCopiesAreRejected(t *testing.T) {
	now := begin
	for name, spoil := range map[string]func(*Copy){
		"no image":          func(p *Copy) { p.Image = "" },
		"no host":           func(p *Copy) { p.Host = "" },
		"a long image":      func(p *Copy) { p.Image = knowledge.ImageKey(bytes.Repeat([]byte("a"), maxImageKey+1)) },
		"a mark in it":      func(p *Copy) { p.Image = "a/b" },
		"a mark in a host":  func(p *Copy) { p.Host = "a/b" },
		"control":           func(p *Copy) { p.Image = "a\x00b" },
		"not ASCII":         func(p *Copy) { p.Host = "\xff" },
		"a long seal":       func(p *Copy) { p.Seal = make([]byte, maxSeal+1) },
		"no profile":        func(p *Copy) { p.Packed = nil },
		"cut short":         func(p *Copy) { p.Packed = p.Packed[:len(p.Packed)-1] },
		"too long":          func(p *Copy) { p.Packed = make([]byte, profile.MaxEncoded+1) },
		"not a number":      func(p *Copy) { copy(p.Packed[1+6*8:], bytes.Repeat([]byte{0xff}, 8)) },
		"a negative time":   func(p *Copy) { p.Packed[1+5*8-1] = 0xff },
		"another version":   func(p *Copy) { p.Version++ },
		"another epoch":     func(p *Copy) { p.Epoch++ },
		"a version of none": func(p *Copy) { *p = copyOf(p.Image, p.Host, now, 0) },
	} {
		good, bad := copyOf("image", "b", now, 1), copyOf("bad", "b", now, 1)
		spoil(&bad)
		s := NewSet("self", nil)
		open, err := Open([]Copy{bad, good})
		news := s.Merge(now, open)
		if news != 1 || !errors.Is(err, ErrCopy) || len(s.images) != 1 {
			t.Errorf("%s: %d news, %v, %d images", name, news, err, len(s.images))
		}
	}
}

// However many copies a host sends, what is kept is bounded; what is asked for from then on
// has room; what this node's containers use goes first; and the own copy stays.
func TestCopiesAreBounded(t *testing.T) {
	now := begin
	l := newNode("self", &now)
	l.work(image1, 1, mib)
	l.images[image1].containers = 1
	var flood []Copy
	for n := range 600 {
		for host := range 20 {
			flood = append(flood, copyOf(knowledge.ImageKey(fmt.Sprint("image", n)), knowledge.NodeID(fmt.Sprint("host", host)),
				now, 1))
		}
	}
	for host := range 200 {
		flood = append(flood, copyOf(image1, knowledge.NodeID(fmt.Sprint("host", host)), now, 1))
	}
	l.mergeAll(t, flood)
	idle, copies := l.count()
	if idle > maxUnused || copies > maxCopies || copies < maxUnusedCopies {
		t.Errorf("%d images without containers, %d copies", idle, copies)
	}
	if n := l.images[image1].shared.Len(); n != profile.MaxHosts+1 || l.images[image1].shared.Of("self") == nil {
		t.Errorf("%d copies of the one in use", n)
	}
	if own := l.images[image1].own; own.ObservedFor() != time.Minute {
		t.Errorf("the own one: %s", own.ObservedFor())
	}
	have := l.Digests(now)
	if have[0].Image != "" || have[0].Epoch != 0 || have[1].Image != image1 || len(have) > maxCopies {
		t.Errorf("%d held, first %v", len(have), have[:2])
	}
	// One that has all of it gives nothing that would be thrown away.
	rich := newNode("rich", &now)
	for n := range 100 {
		rich.work(knowledge.ImageKey(fmt.Sprint("rich", n)), 1, mib)
	}
	if news := l.take(t, rich, 1<<20); news != 0 {
		t.Errorf("%d images beyond the bound", news)
	}
	theirs := ReadDigests(have)
	if parts := rich.CopiesFor(now, theirs, 1<<20); len(parts) != 0 {
		t.Errorf("%d copies for a peer that has no room", len(parts))
	}
	// Absurd tellings of what another has are read within bounds.
	absurd := make([]Digest, 3*maxCopies)
	for n := range absurd {
		absurd[n] = Digest{"same", knowledge.NodeID(fmt.Sprint(n)), 1 << 63, 1 << 63}
	}
	if t2 := ReadDigests(absurd); len(t2.copies) > 2*maxCopies || len(t2.hosts["same"]) > profile.MaxHosts+1 {
		t.Errorf("%d copies and %d hosts are read", len(t2.copies), len(t2.hosts["same"]))
	}
	// Written in bounded batches.
	if n := len(l.Pack(now, false)); n > maxBatch+len(l.images) {
		t.Errorf("%d copies in one batch", n)
	}
}

// A node is given no copies that it would not keep: those of the hosts that all keep
// are enough.
func TestOnlyWhatIsKeptIsGiven(t *testing.T) {
	now := begin
	given := 0
	for turn := range 2 {
		nodes := [2]node{newNode("a", &now), newNode("b", &now)}
		for host := range 60 {
			nodes[host/30].mergeAll(t, []Copy{copyOf(image1, knowledge.NodeID(fmt.Sprint("host", host*host)), now, 1)})
		}
		nodes[0].sign, nodes[1].sign = nil, nil
		for way := range 2 {
			to, from := nodes[(turn+way)%2], nodes[(turn+way+1)%2]
			theirs := ReadDigests(to.Digests(now))
			parts := from.CopiesFor(now, theirs, 1<<20)
			before := to.images[image1].shared.Hosts()
			to.mergeAll(t, parts)
			for _, p := range parts {
				if slices.Contains(before, p.Host) || to.images[image1].shared.Of(p.Host) == nil &&
					!profile.Admits(before, p.Host) {
					t.Errorf("%s is given for nothing", p.Host)
				}
			}
			given += len(parts)
		}
		if a, b := nodes[0].copiesHeld(), nodes[1].copiesHeld(); a != b {
			t.Errorf("%s\n%s", a, b)
		}
	}
	if given == 0 || given >= 2*2*profile.MaxHosts {
		t.Errorf("%d copies are given", given)
	}
}

// In use goes first when there are more bytes than are allowed, and the rest follows.
func TestCopiesGoOnWhereTheyEnded(t *testing.T) {
	now := begin
	from, to := newNode("from", &now), newNode("to", &now)
	for n := range 50 {
		from.work(knowledge.ImageKey(fmt.Sprintf("image%02d", n)), 1, mib)
	}
	from.images["image49"].containers = 1
	if to.take(t, from, 2000); to.images["image49"] == nil {
		t.Error("the one in use is not among the first")
	}
	for n := 0; len(to.images) < 50; n++ {
		if to.take(t, from, 2000) == 0 || n > 50 {
			t.Fatalf("it stops at %d images", len(to.images))
		}
	}
}

// FuzzCopy opens what peers send; what is taken can be read and given on.
func FuzzCopy(f *testing.F) {
	good := copyOf("image", "b", begin, 1)
	f.Add("image", "b", uint64(1), uint64(1), good.Packed)
	f.Fuzz(func(t *testing.T, image, host string, epoch, version uint64, packed []byte) {
		p := Copy{Image: knowledge.ImageKey(image), Host: knowledge.NodeID(host), Epoch: epoch, Version: version,
			Packed: packed}
		q, err := p.open()
		if err != nil {
			return
		}
		now := begin
		l := newNode("self", &now)
		l.sign = nil
		l.Merge(now, Opened{[]Copy{p}, []*profile.Profile{q}})
		l.Pack(now, true)
		all := ReadDigests(nil)
		for _, out := range l.CopiesFor(now, all, 1<<20) {
			if out.Host != "self" && !bytes.Equal(out.Packed, packed) {
				t.Fatal("given on with other bytes than were signed")
			}
		}
	})
}

// BenchmarkCopy is a day of a service on one host as it travels: bytes a part, and
// what a node pays to take it in.
func BenchmarkCopy(b *testing.B) {
	now := begin
	from := newNode("0123456789abcdef0123456789abcdef", &now)
	key := knowledge.ImageKeyOf("sha256:"+string(bytes.Repeat([]byte("ab"), 32)), "serve")
	i := from.image(key)
	rnd := rand.New(rand.NewPCG(3, 6))
	for range 24 * 60 {
		now = now.Add(time.Minute)
		i.own.AddCPU(now, 0.2+rnd.ExpFloat64()*0.3, time.Minute, false)
		i.own.AddMemoryPeak(now, 200*mib+knowledge.Bytes(rnd.Float64()*float64(60*mib)))
	}
	i.own.AddStart(now, 3*time.Second)
	i.dirty = true
	from.Pack(now, true)
	all := ReadDigests(nil)
	parts := from.CopiesFor(now, all, 1<<20)
	b.ReportAllocs()
	for b.Loop() {
		to := newNode("to", &now)
		p, err := parts[0].open()
		if err != nil || to.Merge(now, Opened{parts, []*profile.Profile{p}}) != 1 {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(parts[0].size()-len(parts[0].Seal)+64), "bytes/copy")
}

// BenchmarkDigests is the digest of a node that holds all that it may.
func BenchmarkDigests(b *testing.B) {
	now := begin
	l := newNode("self", &now)
	l.sign = nil
	for n := range 512 {
		key := knowledge.ImageKey(fmt.Sprint("image", n))
		l.work(key, 1, mib)
		l.images[key].containers = 1
		for host := range 7 {
			p := copyOf(key, knowledge.NodeID(fmt.Sprint("host", host)), now, 1)
			q, err := p.open()
			if err != nil {
				b.Fatal(err)
			}
			l.Merge(now, Opened{[]Copy{p}, []*profile.Profile{q}})
		}
	}
	have := l.Digests(now)
	b.Run("digests", func(b *testing.B) {
		for b.Loop() {
			l.Digests(now)
		}
		b.ReportMetric(float64(len(have)), "digests")
	})
	b.Run("nothing new", func(b *testing.B) {
		for b.Loop() {
			t := ReadDigests(have)
			if len(l.CopiesFor(now, t, 1<<20)) != 0 {
				b.Fatal("something is")
			}
		}
	})
}

// There are no more images than a bound, and of unused ones fewer.
func TestImagesAreBounded(t *testing.T) {
	s := NewSet("self", nil)
	var used []*Image
	for n := range maxImages + 10 {
		i := s.Use(begin, knowledge.ImageKey(fmt.Sprint("image", n)))
		if (i == nil) != (n >= maxImages) {
			t.Fatalf("image %d: %v", n, i)
		}
		if i != nil {
			used = append(used, i)
		}
	}
	if s.Forget(begin); len(s.images) != maxImages {
		t.Errorf("%d images", len(s.images))
	}
	for _, i := range used {
		i.Release(begin)
	}
	if s.Forget(begin); len(s.images) != maxUnused {
		t.Errorf("%d unused images", len(s.images))
	}
}
