package execute

import (
	"syscall"
	"testing"
	"time"
)

// Row 123: a refused value is tried again when the circumstances are others: a new start of the
// container, or less memory in use where the limit was below the use.
func TestRefusedIsTriedAgain(t *testing.T) {
	for name, change := range map[string]func(w *world){
		"a new start": func(w *world) { w.s.StartedAt = w.now },
		"less in use": func(w *world) { w.s.Window.MemoryUsage /= 2 },
	} {
		w := freeWorld(t)
		w.v1 = true
		w.s.Window.MemoryUsage = 350 * mib
		w.full = syscall.EBUSY
		w.memory(300 * mib)
		w.settle()
		w.full = nil
		w.pass(30 * time.Minute)
		if a := w.memory(300 * mib); a.Allowed == int64(300*mib) {
			t.Fatalf("%s: repeated unchanged: %+v", name, a)
		}
		w.settle()
		w.kernel.Memory = 512 * mib
		w.s.Marks.Memory = 512 * mib
		w.pass(time.Minute)
		change(w)
		if a := w.memory(300 * mib); a.Allowed != int64(300*mib) {
			t.Errorf("%s: %+v", name, a)
		}
		w.settle()
	}
}
