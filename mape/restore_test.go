package mape

import (
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// Row 107: a restore of a part names what the container would start with.
func TestRow107WhatItStartsWithAfterAPart(t *testing.T) {
	h := newHost(t, options{policy: startPolicy})
	b := h.run("java", knowledge.Limits{CPU: core, Dialect: 1, Memory: 256 * mib, MemorySwap: 256 * mib}, nil)
	b.demand, b.anon = 0.5, 100*mib
	h.pass(5 * time.Second)
	c := h.container(b)
	raised := knowledge.Limits{CPU: 2 * core, Dialect: 1, Memory: 700 * mib, MemorySwap: 700 * mib}
	b.kernel, b.engine, b.anon = raised, raised, 400*mib
	c.Marks.Engine = raised
	c.Marks.Quota, c.Marks.QuotaSet, c.Marks.Memory, c.Marks.MemorySet = raised.CPU, true, raised.Memory, true
	h.pass(time.Second)
	out := h.restore("java", func(Pauses) {})
	want := "memory: the Engine's record is not restored: it starts with 700 MiB, originally 256 MiB"
	if len(out) != 1 || b.engine.CPU != core || b.engine.Memory == 256*mib || !strings.Contains(out[0].Err, want) ||
		strings.Contains(out[0].Err, "cpu:") {
		t.Errorf("%+v, on record %s, %s", out, b.engine.CPU, b.engine.Memory)
	}
}

// restore restores a container while time passes.
func (h *host) restore(ref string, save func(Pauses)) []RestoreResult {
	h.t.Helper()
	done := make(chan []RestoreResult, 1)
	go func() {
		out, err := h.loop.Restore(h.t.Context(), ref, save)
		if err != nil {
			h.t.Error(err)
		}
		done <- out
	}()
	for range 1000 {
		select {
		case do := <-h.loop.Calls():
			do()
			h.settle() // the Engine's answers, before time passes
		case <-time.After(time.Millisecond):
			h.pass(tickEvery)
		case out := <-done:
			return out
		}
	}
	h.t.Fatal("no answer")
	return nil
}
