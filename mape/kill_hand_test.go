package mape

import (
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Rows 63 and 65: what a person sets for a container that is down counts, also where nothing
// had time to answer the kill.
func TestByHandWhileItIsDown(t *testing.T) {
	h, b := calm(t, options{})
	h.pause(b, knowledge.Pause{On: true})
	h.kill(b)
	h.pass(5 * time.Second)
	h.byHand(b, 512*mib)
	h.emit(knowledge.EventUpdate, b)
	h.pass(5 * time.Second)
	h.pause(b, knowledge.Pause{})
	h.pass(5 * time.Second)
	if b.engine.Memory < 512*mib {
		t.Errorf("a person's 512 MiB became %s (original %s)", b.engine.Memory, h.container(b).Original.Memory)
	}
}

// The same in the instant between the kill and the next pass.
func TestByHandRightAfterAKill(t *testing.T) {
	h, b := calm(t, options{})
	h.kill(b)
	h.byHand(b, 512*mib)
	h.emit(knowledge.EventUpdate, b)
	h.pass(5 * time.Second)
	if b.engine.Memory < 512*mib {
		t.Errorf("a person's 512 MiB became %s", b.engine.Memory)
	}
}

// The same while no daemon was there.
func TestByHandBetweenDaemons(t *testing.T) {
	h, b := calm(t, options{})
	h.down = true
	h.kill(b)
	h.pass(2 * time.Second)
	h.end()
	h.down = false
	h.byHand(b, 512*mib)
	h.boot(options{restored: Restored{Marks: h.marks, Originals: h.kept}})
	h.pass(10 * time.Second)
	if b.engine.Memory < 512*mib {
		t.Errorf("a person's 512 MiB became %s", b.engine.Memory)
	}
}

// Row 63: a person lowers the limit after a kill was answered, and is respected.
func TestByHandAfterAKill(t *testing.T) {
	h, b := raised(t)
	h.pass(10 * time.Minute)
	h.byHand(b, 200*mib)
	h.emit(knowledge.EventUpdate, b)
	h.pass(5 * time.Minute)
	if b.engine.Memory != 200*mib {
		t.Errorf("within the 10 minutes of respect it became %s", b.engine.Memory)
	}
}

// Row 63: the same by a command.
func TestScaledDownAfterAKill(t *testing.T) {
	h, b := raised(t)
	h.pass(10 * time.Minute)
	c := h.container(b)
	d := c.requestedLimit(h.now, ScaleRequest{Resource: knowledge.ResourceMemory, To: int64(220 * mib), By: "ann"})
	if r := h.loop.exec.Apply(h.now, &c.Container, d, func(knowledge.Record) {}); !r.Acted {
		t.Fatalf("%+v", r)
	}
	c.Marks.ExternalUntil = h.now.Add(c.Policy.YieldFor) // what Scale does
	h.settle()
	if b.engine.Memory != 220*mib {
		t.Fatal(b.engine.Memory)
	}
	h.pass(5 * time.Minute)
	if b.engine.Memory != 220*mib {
		t.Errorf("what a person asked for became %s within the time of respect", b.engine.Memory)
	}
}

// Row 63: the same, and the container is stopped; nothing starts it.
func TestStoppedAndLowered(t *testing.T) {
	h := newHost(t, options{})
	b := h.run("java", knowledge.Limits{CPU: core / 2, Memory: 256 * mib, MemorySwap: 256 * mib}, nil)
	h.pass(5 * time.Second)
	h.kill(b)
	h.until(2*time.Second, "more", func() bool { return b.engine.Memory >= 356*mib })
	h.start(b)
	h.pass(time.Minute)
	h.byHand(b, 200*mib)
	h.emit(knowledge.EventUpdate, b)
	h.stop(b)
	h.pass(5 * time.Minute)
	if b.engine.Memory != 200*mib {
		t.Errorf("a stopped container that a person gave 200 MiB has %s", b.engine.Memory)
	}
}

// Rows 61 and 65: a person has answered the kill; a restart of the daemon changes nothing.
func TestAPersonAnswersAKill(t *testing.T) {
	h, b := calm(t, options{})
	h.pause(b, knowledge.Pause{On: true})
	h.kill(b)
	h.pass(2 * time.Second)
	h.byHand(b, 512*mib)
	h.start(b)
	h.pass(5 * time.Second)
	h.pause(b, knowledge.Pause{})
	h.container(b).Marks.ExternalUntil = h.now.Add(10 * time.Minute)
	h.pass(30 * time.Second)
	t.Logf("same start: %s", b.engine.Memory)
	h.end()
	h.boot(options{restored: Restored{Marks: h.marks, Originals: h.kept}})
	h.pass(30 * time.Second)
	if b.engine.Memory != 512*mib {
		t.Errorf("because of a restart a person's 512 MiB became %s", b.engine.Memory)
	}
}
