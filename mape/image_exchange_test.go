package mape

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/profile"
	"github.com/effiscale/effiscale/mape/image"
)

// sealOf is a fake signature.
func sealOf(node knowledge.NodeID) image.Sign {
	return func(key knowledge.ImageKey, epoch, version uint64, packed []byte) []byte {
		return fmt.Appendf(nil, "%s/%s/%d/%d/%d", key, node, epoch, version, len(packed))
	}
}

// swap lets one loop pull from another.
func swap(t *testing.T, to, from *host) (news int) {
	t.Helper()
	var have []image.Digest
	var parts []image.Copy
	to.ask(func() (err error) { have, err = to.loop.ImageDigests(t.Context()); return err })
	from.ask(func() (err error) { parts, err = from.loop.ImageCopies(t.Context(), have, 64<<10); return err })
	to.ask(func() (err error) { news, err = to.loop.MergeImages(t.Context(), parts); return err })
	return news
}

// ask runs f and meanwhile the loop's calls.
func (h *host) ask(f func() error) {
	h.t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	for {
		select {
		case ask := <-h.loop.Calls():
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
	old := newHost(t, options{node: "old", signed: true})
	first := old.of(image1, "first", knowledge.Limits{}, 0.5)
	first.anon = 200 * mib
	old.pass(5 * time.Minute)

	fetched, asking := newHost(t, options{node: "fetched", signed: true}),
		newHost(t, options{node: "asking", signed: true})
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
		if cpu, mem := b.kernel.CPU, b.kernel.Memory; cpu < core*55/100 || cpu > core*70/100 || mem < 260*mib ||
			mem > 290*mib {
			t.Errorf("%s: %s cores and %s", h.loop.o.Node, cpu, mem)
		}
	}
}

// restart stops and starts the daemon: all copies of the disk are restored.
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

// hasCopy reports whether the loop has a host's copy of an image.
func (h *host) hasCopy(at image.CopyKey) bool {
	return slices.ContainsFunc(h.loop.images.Digests(h.now), func(d image.Digest) bool {
		return d.Image == at.Image && d.Host == at.Host && d.Version > 0
	})
}

// Copies of other hosts are written with their seals, once, again when the disk did
// not take them, and are given to others after a restart as before.
func TestCopiesOfOthersAreRemembered(t *testing.T) {
	a, b := newHost(t, options{node: "a", signed: true}), newHost(t, options{node: "b", signed: true})
	a.of(image1, "first", usual, 0.5)
	a.pass(3 * time.Minute)
	b.now = a.now
	b.full = true
	swap(t, b, a)
	b.pass(time.Minute)
	at := image.CopyKey{Image: image1, Host: "a"}
	if _, ok := b.copies[at]; ok {
		t.Fatal("the disk is not full")
	}
	b.full = false
	b.pass(time.Minute)
	want := a.loop.images.CopiesFor(a.now, image.ReadDigests(nil), 64<<10)[0]
	if c := b.copies[at]; len(want.Seal) == 0 || !bytes.Equal(c.Packed, want.Packed) || !bytes.Equal(c.Seal, want.Seal) {
		t.Fatalf("%d bytes, seal %q", len(c.Packed), c.Seal)
	}
	delete(b.copies, at)
	b.pass(time.Minute)
	if _, ok := b.copies[at]; ok {
		t.Error("it is written again and again")
	}
	b.loop.images.Unsaved(map[image.CopyKey]image.StoredCopy{at: {}})
	b.restart(options{node: "b", signed: true})
	c := newHost(t, options{node: "c", signed: true})
	c.now = b.now
	if news := swap(t, c, b); news != 1 || !c.hasCopy(at) {
		t.Errorf("%d news after the restart", news)
	}
}
