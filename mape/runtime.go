package mape

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/analyse"
)

// programs is a probe that knows the processes of its container: their names, and the size of the
// shared memory that one of them has mapped.
type programs interface {
	Processes() (names []string, shared knowledge.Bytes)
}

// life is what is read of a container's processes, once after its start.
type life struct {
	at      time.Time // of the first reading
	looks   int
	runtime analyse.Runtime
	shared  knowledge.Bytes // mapped
	limit   knowledge.Bytes // of memory, at the start; 0: none, or not seen
}

// lifeAfter and lifeAgain are when processes are looked at, after the first reading: what runs
// below a shell or a supervisor is there by then.
const lifeAfter, lifeAgain = 5 * time.Second, time.Minute

// lookAtProcesses recognises the runtime, once, and once more where it was none.
func (c *container) lookAtProcesses(now time.Time) {
	l := &c.reading.life
	if l.at.IsZero() {
		l.at = now
		if age := c.Finding.Age; age > 0 && age < lifeAfter {
			l.limit = c.Window.MemoryLimit
		}
	}
	due := lifeAfter
	if l.looks == 1 && l.runtime.Name == "" && l.shared == 0 {
		due = lifeAgain
	} else if l.looks > 0 {
		return
	}
	p, ok := c.Probe.(programs)
	if !ok || now.Sub(l.at) < due {
		return
	}
	names, shared := p.Processes()
	l.looks++
	l.runtime, l.shared = analyse.RuntimeOf(names), shared
}
