package mape

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

// sealOf stands in for a signature.
func sealOf(node knowledge.NodeID) func(knowledge.ImageKey, uint64, uint64, []byte) []byte {
	return func(key knowledge.ImageKey, epoch, version uint64, packed []byte) []byte {
		return fmt.Appendf(nil, "%s/%s/%d/%d/%d", key, node, epoch, version, len(packed))
	}
}

func sealed(p Part) bool {
	return bytes.Equal(p.Seal, sealOf(p.Host)(p.Image, p.Epoch, p.Version, p.Packed))
}

// bare is a loop that knows images and nothing else.
func bare(node knowledge.NodeID, now *time.Time) *Loop {
	return &Loop{
		o:      Options{Node: node, Seal: sealOf(node), Now: func() time.Time { return *now }},
		images: map[knowledge.ImageKey]*image{},
	}
}

// work lets an image be observed for a minute and be written.
func (l *Loop) work(key knowledge.ImageKey, cores float64, peak knowledge.Bytes) {
	now := l.o.Now()
	i := l.image(now, key)
	if i.own.Version == 0 {
		i.own.Epoch -= uint64(offerAfter / time.Second)
	}
	i.learn(func(p *profile.Profile) {
		p.AddCPU(now, cores, time.Minute, false)
		p.AddMemoryPeak(now, peak)
	})
	l.packImages(now, true)
}

// take gives one what another has, as it travels.
func (l *Loop) take(t interface {
	Helper()
	Fatalf(string, ...any)
}, from *Loop, most int) int {
	t.Helper()
	theirs := read(l.holds(l.o.Now()))
	parts := from.parts(from.o.Now(), &theirs, most)
	size := 0
	for n := range parts {
		size += parts[n].size()
		if !sealed(parts[n]) {
			t.Fatalf("a seal that does not fit: %s", parts[n].Seal)
		}
	}
	if size > most {
		t.Fatalf("%d bytes, allowed were %d", size, most)
	}
	return l.mergeAll(t, parts)
}

func (l *Loop) mergeAll(t interface {
	Helper()
	Fatalf(string, ...any)
}, parts []Part) int {
	t.Helper()
	open := make([]*profile.Profile, len(parts))
	for n := range parts {
		p, err := parts[n].open()
		if err != nil {
			t.Fatalf("%v", err)
		}
		open[n] = p
	}
	return l.merge(l.o.Now(), parts, open)
}

// copiesHeld are all copies but the own ones that were not offered yet, in words.
func (l *Loop) copiesHeld() string {
	var out []string
	for key, i := range l.images {
		l.copiesOf(l.o.Now(), key, i, func(h Held, c profile.Copy) {
			packed := i.offer.packed
			if h.Host != l.o.Node {
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
		var nodes []*Loop
		for n := range rapid.IntRange(2, 4).Draw(t, "nodes") {
			nodes = append(nodes, bare(knowledge.NodeID(fmt.Sprint("node", n)), &now))
		}
		pick := rapid.SampledFrom(nodes)
		var old []Part
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(1, 3600).Draw(t, "seconds")) * time.Second)
			a, b := pick.Draw(t, "a"), pick.Draw(t, "b")
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0, 1:
				a.work(knowledge.ImageKey(fmt.Sprint("image", rapid.IntRange(0, 3).Draw(t, "image"))), rapid.Float64Range(0.01, 8).Draw(t, "cores"), 100*mib)
			case 2:
				a.take(t, b, rapid.IntRange(0, 4000).Draw(t, "most"))
				all := read(nil)
				old = append(old, b.parts(now, &all, 1<<20)...)
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
			if Sum(nodes[0].holds(now)) != Sum(n.holds(now)) {
				t.Fatal("their sums differ")
			}
			if news := n.take(t, nodes[0], 1<<20); news != 0 {
				t.Fatalf("%d are news once more", news)
			}
		}
	})
}

// swap lets two whole loops exchange through their doors.
func swap(t *testing.T, to, from *host) (news int) {
	t.Helper()
	var have []Held
	var parts []Part
	to.ask(func() (err error) { have, err = to.loop.Holds(t.Context()); return err })
	from.ask(func() (err error) { parts, err = from.loop.Parts(t.Context(), have, 64<<10); return err })
	to.ask(func() (err error) { news, err = to.loop.Merge(t.Context(), parts); return err })
	return news
}

// ask runs f beside the loop and answers what it asks.
func (h *host) ask(f func() error) {
	h.t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	for {
		select {
		case ask := <-h.loop.queue:
			ask()
		case err := <-done:
			if err != nil {
				h.t.Error(err)
			}
			return
		}
	}
}

// A new host gives a container of an image that others know its first limits from
// what they know: the one that it fetched before, and the one that it asks for when
// the container is there.
func TestANewHostStartsFromWhatOthersKnow(t *testing.T) {
	old := newHost(t, options{node: "old", seal: true})
	first := old.of(image1, "first", knowledge.Limits{}, 0.5)
	first.anon = 200 * mib
	old.pass(5 * time.Minute)

	fetched, asking := newHost(t, options{node: "fetched", seal: true}), newHost(t, options{node: "asking", seal: true})
	fetched.now, asking.now = old.now, old.now
	if news := swap(t, fetched, old); news != 1 {
		t.Fatalf("%d news", news)
	}
	if news := swap(t, fetched, old); news != 0 {
		t.Errorf("%d news the second time", news)
	}
	for _, h := range []*host{fetched, asking} {
		b := h.of(image1, "second", knowledge.Limits{}, 0.1)
		if h == asking {
			h.until(time.Second, "the container is seen", func() bool { return h.container(b) != nil })
			if news := swap(t, asking, fetched); news != 1 {
				t.Errorf("%d news from a third", news)
			}
		}
		if took := h.firstLimits(b); took > 11*time.Second { // a deliberation and a step
			t.Errorf("%s: limited after %s", h.loop.o.Node, took)
		}
		if cpu, mem := b.kernel.CPU, b.kernel.Memory; cpu < core*55/100 || cpu > core*70/100 || mem < 300*mib || mem > 336*mib {
			t.Errorf("%s: %s cores and %s", h.loop.o.Node, cpu, mem)
		}
	}
}

// restart is what the node does between two lives: all copies of the disk come back.
func (h *host) restart(o options) {
	h.end()
	o.restored.Images = map[knowledge.ImageKey]*profile.Shared{}
	for at, c := range h.copies {
		p, err := profile.Unmarshal(c.Packed)
		if err != nil {
			h.t.Fatal(err)
		}
		s := o.restored.Images[at.Image]
		if s == nil {
			s = &profile.Shared{}
			s.Keep(o.node)
			o.restored.Images[at.Image] = s
		}
		s.PutCopy(profile.Copy{Host: at.Host, Profile: p, Seal: c.Seal})
	}
	h.boot(o)
}

// Copies of other hosts are written with their seals, once, again when the disk did
// not take them, and are given on in the next life as in this one.
func TestCopiesOfOthersAreRemembered(t *testing.T) {
	a, b := newHost(t, options{node: "a", seal: true}), newHost(t, options{node: "b", seal: true})
	a.of(image1, "first", usual, 0.5)
	a.pass(3 * time.Minute)
	b.now = a.now
	b.full = true
	swap(t, b, a)
	b.pass(time.Minute)
	at := ImageCopy{image1, "a"}
	if _, ok := b.copies[at]; ok {
		t.Fatal("the disk is not full")
	}
	b.full = false
	b.pass(time.Minute)
	want := a.loop.images[image1].offer
	if c := b.copies[at]; len(want.seal) == 0 || !bytes.Equal(c.Packed, want.packed) || !bytes.Equal(c.Seal, want.seal) {
		t.Fatalf("%d bytes, seal %q", len(c.Packed), c.Seal)
	}
	delete(b.copies, at)
	b.pass(time.Minute)
	if _, ok := b.copies[at]; ok {
		t.Error("it is written again and again")
	}
	b.loop.images[image1].unsaved["a"] = true
	b.restart(options{node: "b", seal: true})
	c := newHost(t, options{node: "c", seal: true})
	c.now = b.now
	if news := swap(t, c, b); news != 1 || c.loop.images[image1].shared.Of("a") == nil {
		t.Errorf("%d news from the next life", news)
	}
}

// A host that lost its disk gets back what it knew: under a new id as another
// host's, under the old one as its own, once. What it learned since is not lost, and
// what it says from then on is newer for the others than what they had.
func TestALostDisk(t *testing.T) {
	now := begin
	a, peer := bare("a", &now), bare("peer", &now)
	for range 30 {
		now = now.Add(time.Minute)
		a.work(image1, 2, 200*mib)
	}
	peer.take(t, a, 1<<20)
	had := peer.images[image1].shared.Of("a").ObservedFor()
	now = now.Add(time.Hour)

	other := bare("other", &now)
	if other.take(t, peer, 1<<20); other.images[image1] == nil || other.images[image1].shared.Of("a") == nil {
		t.Error("not under a new id")
	}
	again := bare("a", &now)
	again.image(now, image1).learn(func(p *profile.Profile) { p.AddCPU(now, 1, time.Minute, false) })
	again.images[image1].units = 1
	again.packImages(now, true)
	since := again.images[image1].own.ObservedFor()
	for n := range 3 {
		if news := again.take(t, peer, 1<<20); (news == 1) != (n == 0) {
			t.Errorf("%d news the %d. time", news, n)
		}
		if got := again.images[image1].own.ObservedFor(); got != had+since {
			t.Errorf("observed for %s, want %s and %s", got, had, since)
		}
		again.packImages(now, true)
	}
	if again.images[image1].shared.Of("a") != again.images[image1].own {
		t.Error("its own part is not what it reads")
	}
	if peer.take(t, again, 1<<20) != 0 {
		t.Error("it tells before it was told")
	}
	now = now.Add(offerAfter)
	again.images[image1].dirty = true
	again.packImages(now, true)
	if peer.take(t, again, 1<<20) != 1 || peer.images[image1].shared.Of("a").ObservedFor() != had+since {
		t.Error("the peer does not take the new one")
	}
	// A disk that was set back: the same epoch, and the others have more of it.
	back := bare("a", &now)
	i := back.image(now, image1)
	i.own.Epoch, i.own.Version = again.images[image1].own.Epoch, 1
	i.learn(func(p *profile.Profile) { p.AddCPU(now, 1, time.Second, false) })
	if back.take(t, peer, 1<<20) != 1 || back.images[image1].own.ObservedFor() != had+since {
		t.Errorf("set back: %s", back.images[image1].own.ObservedFor())
	}
}

// What a host says ends a month after it observed something, on all nodes, however
// often they give it to each other; a copy from the future is not taken.
func TestAHostThatIsGoneEnds(t *testing.T) {
	now := begin
	gone, a, b := bare("gone", &now), bare("a", &now), bare("b", &now)
	gone.work(image1, 1, mib)
	a.take(t, gone, 1<<20)
	for range 29 {
		now = now.Add(24 * time.Hour)
		a.forgetImages()
		b.take(t, a, 1<<20)
		a.take(t, b, 1<<20)
	}
	if b.images[image1].shared.Of("gone") == nil {
		t.Fatal("it ended early")
	}
	late := read(nil)
	parts := a.parts(now, &late, 1<<20)
	now = now.Add(25 * time.Hour)
	if got := b.copiesHeld(); got != "[]" {
		t.Errorf("told: %s", got)
	}
	b.forgetImages()
	if b.mergeAll(t, parts) != 0 || b.images[image1].shared.Of("gone") != nil {
		t.Error("it does not end")
	}
	now = begin.Add(-25 * time.Hour)
	if b.mergeAll(t, parts) != 0 {
		t.Error("taken from the future")
	}
}

// partOf is what a host may say of an image.
func partOf(image knowledge.ImageKey, host knowledge.NodeID, at time.Time, version uint64) Part {
	p := profile.New()
	p.Epoch, p.Version = 1, version
	p.AddCPU(at, 1, time.Minute, false)
	return Part{Image: image, Host: host, Epoch: 1, Version: version, Packed: p.Marshal(), Seal: []byte("seal")}
}

// What is no part is refused, and leaves what stands beside it alone.
func TestHostilePartsAreRefused(t *testing.T) {
	h := newHost(t, options{node: "self"})
	for name, spoil := range map[string]func(*Part){
		"no image":          func(p *Part) { p.Image = "" },
		"no host":           func(p *Part) { p.Host = "" },
		"a long image":      func(p *Part) { p.Image = knowledge.ImageKey(bytes.Repeat([]byte("a"), imageKeyMost+1)) },
		"a mark in it":      func(p *Part) { p.Image = "a/b" },
		"a mark in a host":  func(p *Part) { p.Host = "a/b" },
		"control":           func(p *Part) { p.Image = "a\x00b" },
		"not ASCII":         func(p *Part) { p.Host = "\xff" },
		"a long seal":       func(p *Part) { p.Seal = make([]byte, sealMost+1) },
		"no profile":        func(p *Part) { p.Packed = nil },
		"cut short":         func(p *Part) { p.Packed = p.Packed[:len(p.Packed)-1] },
		"too long":          func(p *Part) { p.Packed = make([]byte, profile.MaxEncoded+1) },
		"not a number":      func(p *Part) { copy(p.Packed[1+6*8:], bytes.Repeat([]byte{0xff}, 8)) },
		"a negative time":   func(p *Part) { p.Packed[1+5*8-1] = 0xff },
		"another version":   func(p *Part) { p.Version++ },
		"another epoch":     func(p *Part) { p.Epoch++ },
		"a version of none": func(p *Part) { *p = partOf(p.Image, p.Host, h.now, 0) },
	} {
		good, bad := partOf("image", "b", h.now, 1), partOf("bad", "b", h.now, 1)
		spoil(&bad)
		h.loop.images = map[knowledge.ImageKey]*image{}
		var news int
		var err error
		h.ask(func() error { news, err = h.loop.Merge(t.Context(), []Part{bad, good}); return nil })
		if news != 1 || !errors.Is(err, ErrPart) || len(h.loop.images) != 1 {
			t.Errorf("%s: %d news, %v, %d images", name, news, err, len(h.loop.images))
		}
	}
}

// However much a host says, what is kept is bounded; what is asked for from then on
// has room; what this node's containers use goes first; and the own copy stays.
func TestHostilePartsAreBounded(t *testing.T) {
	now := begin
	l := bare("self", &now)
	l.work(image1, 1, mib)
	l.images[image1].units = 1
	var flood []Part
	for n := range 600 {
		for host := range 20 {
			flood = append(flood, partOf(knowledge.ImageKey(fmt.Sprint("image", n)), knowledge.NodeID(fmt.Sprint("host", host)), now, 1))
		}
	}
	for host := range 200 {
		flood = append(flood, partOf(image1, knowledge.NodeID(fmt.Sprint("host", host)), now, 1))
	}
	l.mergeAll(t, flood)
	idle, copies := l.stock()
	if idle > imagesIdle || copies > copiesMost || copies < copiesIdle {
		t.Errorf("%d images without containers, %d copies", idle, copies)
	}
	if n := l.images[image1].shared.Len(); n != profile.MaxHosts+1 || l.images[image1].shared.Of("self") == nil {
		t.Errorf("%d copies of the one in use", n)
	}
	if own := l.images[image1].own; own.ObservedFor() != time.Minute {
		t.Errorf("the own one: %s", own.ObservedFor())
	}
	have := l.holds(now)
	if have[0].Image != "" || have[0].Epoch != 0 || have[1].Image != image1 || len(have) > copiesMost {
		t.Errorf("%d held, first %v", len(have), have[:2])
	}
	// One that has all of it gives nothing that would be thrown away.
	rich := bare("rich", &now)
	for n := range 100 {
		rich.work(knowledge.ImageKey(fmt.Sprint("rich", n)), 1, mib)
	}
	if news := l.take(t, rich, 1<<20); news != 0 {
		t.Errorf("%d images beyond the bound", news)
	}
	theirs := read(have)
	if parts := rich.parts(now, &theirs, 1<<20); len(parts) != 0 {
		t.Errorf("%d parts for one that has no room", len(parts))
	}
	// Absurd tellings of what another has are read within bounds.
	absurd := make([]Held, 3*copiesMost)
	for n := range absurd {
		absurd[n] = Held{"same", knowledge.NodeID(fmt.Sprint(n)), 1 << 63, 1 << 63}
	}
	if t2 := read(absurd); len(t2.copies) > 2*copiesMost || len(t2.hosts["same"]) > profile.MaxHosts+1 {
		t.Errorf("%d copies and %d hosts are read", len(t2.copies), len(t2.hosts["same"]))
	}
	// Written in bounded batches.
	if n := len(l.packImages(now, false)); n > copiesAtOnce+len(l.images) {
		t.Errorf("%d copies in one batch", n)
	}
}

// A node is given no copies that it would not keep: those of the hosts that all keep
// are enough.
func TestOnlyWhatIsKeptIsGiven(t *testing.T) {
	now := begin
	given := 0
	for turn := range 2 {
		nodes := [2]*Loop{bare("a", &now), bare("b", &now)}
		for host := range 60 {
			nodes[host/30].mergeAll(t, []Part{partOf(image1, knowledge.NodeID(fmt.Sprint("host", host*host)), now, 1)})
		}
		nodes[0].o.Seal, nodes[1].o.Seal = nil, nil
		for way := range 2 {
			to, from := nodes[(turn+way)%2], nodes[(turn+way+1)%2]
			theirs := read(to.holds(now))
			parts := from.parts(now, &theirs, 1<<20)
			before := to.images[image1].shared.Hosts()
			to.mergeAll(t, parts)
			for _, p := range parts {
				if slices.Contains(before, p.Host) || to.images[image1].shared.Of(p.Host) == nil && !profile.Admits(before, p.Host) {
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
func TestPartsGoOnWhereTheyEnded(t *testing.T) {
	now := begin
	from, to := bare("from", &now), bare("to", &now)
	for n := range 50 {
		from.work(knowledge.ImageKey(fmt.Sprintf("image%02d", n)), 1, mib)
	}
	from.images["image49"].units = 1
	if to.take(t, from, 2000); to.images["image49"] == nil {
		t.Error("the one in use is not among the first")
	}
	for n := 0; len(to.images) < 50; n++ {
		if to.take(t, from, 2000) == 0 || n > 50 {
			t.Fatalf("it stops at %d images", len(to.images))
		}
	}
}

// FuzzPart opens what strangers send; what is taken can be read and given on.
func FuzzPart(f *testing.F) {
	good := partOf("image", "b", begin, 1)
	f.Add("image", "b", uint64(1), uint64(1), good.Packed)
	f.Fuzz(func(t *testing.T, image, host string, epoch, version uint64, packed []byte) {
		p := Part{Image: knowledge.ImageKey(image), Host: knowledge.NodeID(host), Epoch: epoch, Version: version, Packed: packed}
		q, err := p.open()
		if err != nil {
			return
		}
		now := begin
		l := bare("self", &now)
		l.o.Seal = nil
		l.merge(now, []Part{p}, []*profile.Profile{q})
		l.packImages(now, true)
		all := read(nil)
		for _, out := range l.parts(now, &all, 1<<20) {
			if out.Host != "self" && !bytes.Equal(out.Packed, packed) {
				t.Fatal("given on with other bytes than were signed")
			}
		}
	})
}

// BenchmarkPart is a day of a service on one host as it travels: bytes a part, and
// what a node pays to take it in.
func BenchmarkPart(b *testing.B) {
	now := begin
	from := bare("0123456789abcdef0123456789abcdef", &now)
	key := knowledge.ImageKeyOf("sha256:"+string(bytes.Repeat([]byte("ab"), 32)), "serve")
	i := from.image(now, key)
	rnd := rand.New(rand.NewPCG(3, 6))
	for range 24 * 60 {
		now = now.Add(time.Minute)
		i.own.AddCPU(now, 0.2+rnd.ExpFloat64()*0.3, time.Minute, false)
		i.own.AddMemoryPeak(now, 200*mib+knowledge.Bytes(rnd.Float64()*float64(60*mib)))
	}
	i.own.AddStart(now, 3*time.Second)
	i.dirty = true
	from.packImages(now, true)
	all := read(nil)
	parts := from.parts(now, &all, 1<<20)
	b.ReportAllocs()
	for b.Loop() {
		to := bare("to", &now)
		p, err := parts[0].open()
		if err != nil || to.merge(now, parts, []*profile.Profile{p}) != 1 {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(parts[0].size()-len(parts[0].Seal)+64), "bytes/part")
}

// BenchmarkHolds is the digest of a node that holds all that it may.
func BenchmarkHolds(b *testing.B) {
	now := begin
	l := bare("self", &now)
	l.o.Seal = nil
	for n := range 512 {
		key := knowledge.ImageKey(fmt.Sprint("image", n))
		l.work(key, 1, mib)
		l.images[key].units = 1
		for host := range 7 {
			p := partOf(key, knowledge.NodeID(fmt.Sprint("host", host)), now, 1)
			q, err := p.open()
			if err != nil {
				b.Fatal(err)
			}
			l.merge(now, []Part{p}, []*profile.Profile{q})
		}
	}
	have := l.holds(now)
	b.Run("holds", func(b *testing.B) {
		for b.Loop() {
			l.holds(now)
		}
		b.ReportMetric(float64(len(have)), "held")
	})
	b.Run("nothing new", func(b *testing.B) {
		for b.Loop() {
			t := read(have)
			if len(l.parts(now, &t, 1<<20)) != 0 {
				b.Fatal("something is")
			}
		}
	})
}
