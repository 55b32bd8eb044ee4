package mape

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/knowledge"
)

// Row 124: memory that runs out elsewhere raises no limit of this container, whether the
// kernel killed a process of it or only of others, whether it lives or ends; at its own
// limit it does.
func TestOOMElsewhere(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(h *host, b *box) // by a kill of the kernel
		raised bool
		says   string
	}{
		{"own", func(h *host, b *box) { h.emit(knowledge.EventOOM, b) }, true, ""},
		{"a sibling's process", func(h *host, b *box) { h.event(knowledge.EventOOM, b) }, false, ""},
		{"own process, a parent's limit", func(h *host, b *box) {
			b.s.OtherKills, b.s.OtherLevel = b.s.OtherKills+1, knowledge.OOMParent
			b.bounds.OOM++
			h.event(knowledge.EventOOM, b)
		}, false, "parent cgroup"},
		{"own process, the host", func(h *host, b *box) {
			b.s.OtherKills, b.s.OtherLevel = b.s.OtherKills+1, knowledge.OOMHost
		}, false, "host's memory"},
		{"inner cgroup", func(h *host, b *box) {
			b.s.OtherKills, b.s.OtherLevel = b.s.OtherKills+1, knowledge.OOMInner
			h.event(knowledge.EventOOM, b)
		}, false, "inner cgroup"},
		{"inner cgroup that is known", func(h *host, b *box) {
			b.s.OtherKills, b.s.OtherLevel = b.s.OtherKills+1, knowledge.OOMInner
			h.event(knowledge.EventOOM, b)
			b.inner = knowledge.InnerKill{Group: "/docker/app", Kills: b.inner.Kills + 1, Limit: 64 * mib}
		}, false, "5 processes were killed in the inner cgroup /docker/app at its limit of 64 MiB"},
		{"ended, a parent's limit", func(h *host, b *box) { b.bounds.OOM++; h.kill(b) }, false, "parent cgroup"},
		{"ended, a parent's limit, told late", func(h *host, b *box) {
			b.bounds.OOM++
			h.stop(b)
			h.pass(19 * time.Second) // the Engine stalled
			h.emit(knowledge.EventOOM, b)
		}, false, "parent cgroup"},
		{"ended, a parent's limit, read before", func(h *host, b *box) {
			b.bounds.OOM++
			h.event(knowledge.EventOOM, b)
			h.pass(2 * time.Second)
			h.kill(b)
		}, false, "parent cgroup"},
		{"ended, a parent's limit, counted before", func(h *host, b *box) {
			b.s.OtherKills, b.s.OtherLevel = b.s.OtherKills+1, knowledge.OOMParent
			h.event(knowledge.EventOOM, b)
			h.pass(2 * time.Second)
			h.kill(b)
		}, false, "parent cgroup"},
		{"ended, own limit", func(h *host, b *box) { h.kill(b) }, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t, options{})
			var log bytes.Buffer
			h.loop.o.Log = zerolog.New(&log)
			b := h.run("web", knowledge.Limits{CPU: core / 2, Memory: 324 * mib, MemorySwap: 324 * mib}, nil)
			h.pass(20 * time.Second)
			for range 5 {
				c.change(h, b)
				h.pass(5 * time.Second)
				if b.gone {
					h.start(b)
				}
				h.pass(15 * time.Second)
			}
			if raised := b.engine.Memory > 324*mib; raised != c.raised {
				t.Errorf("the limit is %s", b.engine.Memory)
			}
			why := h.container(b).planned[knowledge.ResourceMemory].Decision.Reason.String()
			if !strings.Contains(why, c.says) {
				t.Errorf("%q does not name %q", why, c.says)
			}
			lines := strings.Count(log.String(), "OOM kill, not at the container's own memory limit")
			if want := min(len(c.says), 1); lines != want {
				t.Errorf("%d lines in the log, want %d:\n%s", lines, want, &log)
			}
			if b.inner.Kills > 0 && !strings.Contains(log.String(), `"cgroup":"/docker/app","kills":1,"limit":"64 MiB"`) {
				t.Errorf("the log does not name the cgroup:\n%s", &log)
			}
		})
	}
}
