package mape

import (
	"fmt"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/profile"
)

const image1 = knowledge.ImageKey("image1-command1")

// of makes a container of an image, of a service of its own.
func (h *host) of(image knowledge.ImageKey, name string, l knowledge.Limits, demand float64) *box {
	b := h.run(name, l, nil)
	b.c.Image, b.demand = image, demand
	h.emit(knowledge.EventCreate, b)
	return b
}

// firstLimits is how long a container without limits is left without them.
func (h *host) firstLimits(b *box) time.Duration {
	return h.until(5*time.Minute, "first limits", func() bool { return b.kernel.CPU > 0 && b.kernel.Memory > 0 })
}

// A container of an image that is known gets limits in seconds that hold all that
// the image is known to use; one of another image, or another command, is watched
// as long as ever. After an hour of the image its floors are there from the start.
func TestASecondContainerStartsFromItsImage(t *testing.T) {
	h := newHost(t, options{})
	first := h.of(image1, "first", knowledge.Limits{}, 0.5)
	first.anon = 200 * mib
	if took := h.firstLimits(first); took < time.Minute {
		t.Errorf("the first one was limited after %s", took)
	}
	second, other := h.of(image1, "second", knowledge.Limits{}, 0.1),
		h.of("image2-command1", "other", knowledge.Limits{}, 0.1)
	if took := h.firstLimits(second); took > 10*time.Second {
		t.Errorf("the second one was limited after %s", took)
	}
	// What the first one used at most, with 15 %; 200 MiB with a margin of 30 %.
	if cpu, mem := second.kernel.CPU, second.kernel.Memory; cpu < core*55/100 || cpu > core*70/100 || mem < 260*mib ||
		mem > 290*mib {
		t.Errorf("%s cores and %s", cpu, mem)
	}
	c := h.container(second)
	for _, a := range h.begun {
		if a.ID == second.c.ID && a.Resize.Resource == knowledge.ResourceMemory && a.Reason.Rule != knowledge.RuleFirstImage {
			t.Errorf("%s", a.Reason)
		}
	}
	if took := h.firstLimits(other); took < 45*time.Second {
		t.Errorf("the other one was limited %s later", took)
	}
	if c.Envelope.Learned {
		t.Error("floors from minutes of history")
	}
	h.pass(time.Hour)
	third := h.of(image1, "third", usual, 0.1)
	h.until(2*time.Second, "the third has a floor", func() bool {
		c := h.container(third)
		return c != nil && c.Envelope.Reason.Rule == knowledge.RuleImage && c.Envelope.CPU.Min >= core/20
	})
	if e := &h.container(third).Envelope; e.MemoryFloor < 100*mib || e.Memory < e.MemoryFloor || !e.Learned {
		t.Errorf("%+v", e)
	}
	h.pass(61 * time.Minute)
	if why := h.container(third).Envelope.Reason; why.Rule != knowledge.RuleProfile {
		t.Errorf("after an hour of its own: %s", why)
	}
}

// What an image taught is written seldom, at the end, and again when a write
// failed; the next start begins with it, and with the copies of other hosts.
func TestImagesAreRemembered(t *testing.T) {
	h := newHost(t, options{})
	h.of(image1, "first", knowledge.Limits{}, 0.5)
	h.pass(30 * time.Minute)
	// After 15 s, at each eighth more to 40 min, then each 5 min.
	if n := h.images[image1]; n < 20 || n > 40 {
		t.Errorf("written %d times in half an hour", n)
	}
	h.end()
	left, err := profile.Unmarshal(h.image)
	if err != nil || left.ObservedFor() < 29*time.Minute || left.Version == 0 || left.Epoch != uint64(begin.Unix()) {
		t.Fatalf("%+v, %v", left, err)
	}
	shared := &profile.Shared{}
	shared.Put("self", left)
	other := left.Clone()
	other.AddCPU(h.now, 3, time.Second, false)
	shared.Put("other", other)
	h.boot(options{restored: Restored{Images: map[knowledge.ImageKey]*profile.Shared{image1: shared}}})
	second := h.of(image1, "second", knowledge.Limits{}, 0.1)
	if took := h.firstLimits(second); took > 10*time.Second {
		t.Errorf("limited after %s", took)
	}
	if second.kernel.CPU < core*11/10 { // the mean of 0.5 and, of 3, 3 times as much, with 15 %
		t.Errorf("%s cores: the other host's part does not count", second.kernel.CPU)
	}
}

// There are no more images than a bound, and their containers are managed all the
// same.
func TestImagesAreBounded(t *testing.T) {
	h := newHost(t, options{cpus: 64, memory: 1024 * gib})
	const most = 1024 // images that are kept
	for i := range most + 10 {
		h.of(knowledge.ImageKey(fmt.Sprint("image", i)), fmt.Sprint("c", i), usual, 0)
	}
	h.until(10*time.Second, "ready", func() bool { return h.loop.ready })
	without := 0
	for _, c := range h.loop.containers.order {
		if c.image == nil {
			without++
		}
	}
	if without != 10 {
		t.Errorf("%d containers without an image", without)
	}
	for _, b := range append([]*box(nil), h.order...) {
		h.remove(b)
	}
	h.pass(2 * time.Minute)
	b := h.of("image", "new", usual, 0)
	h.until(time.Second, "the new one is listed", func() bool { return h.container(b) != nil })
	if h.container(b).image == nil {
		t.Error("unused images are not dropped")
	}
}
