package demo

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/charmbracelet/x/ansi"

	"github.com/effiscale/effiscale/docker"
	"github.com/effiscale/effiscale/node/demo/process"
)

// kind is what runs the load.
type kind uint8

const (
	containers kind = iota // of the Docker Engine
	processes              // in control groups, as root
	simulated              // nothing real
)

// choose picks the kind that this host and this user can have, and returns what to tell
// the user about it; "": nothing.
func (d *demo) choose(ctx context.Context) (note string, err error) {
	if d.engine, err = docker.Open(docker.Options{Host: d.Host, CertDir: d.CertDir}); err != nil {
		return "", err
	}
	d.push("connection", func(context.Context) error { return d.engine.Close() })
	d.host, err = d.engine.Host(ctx)
	reason, _ := docker.KindOf(err)
	switch {
	case err == nil:
		return d.engineNote(), d.useContainers(ctx)
	case ctx.Err() != nil:
		return "", ctx.Err()
	case reason == docker.KindPermission:
		d.kind = simulated
		note = d.forbidden()
	case reason != docker.KindUnreachable && reason != docker.KindTimeout:
		return "", err
	case os.Geteuid() != 0:
		d.kind = simulated
		note = fmt.Sprintf("No Docker Engine answers at %s, and this user is not root.\n"+
			"To see the demo on the kernel's control groups, without containers:\n\n    sudo %s demo\n\n"+
			"To see it in containers, install and start a Docker Engine first.", d.Host, d.Command)
	default:
		note, err = d.useProcesses(ctx)
		if err != nil {
			return "", err
		}
	}
	if d.kind == simulated {
		d.host.CPUs = runtime.NumCPU()
		note += "\n\nSIMULATED: what follows is computed. There is no container, and no limit is set in the kernel.\n" +
			"The decisions are those of the daemon's own code."
	}
	return note, nil
}

// useContainers checks that the program and the host are fit for it.
func (d *demo) useContainers(ctx context.Context) error {
	if err := checkStatic(d.Binary); err != nil {
		return err
	}
	if err := d.unmanaged(ctx); err != nil {
		return err
	}
	if err := survey(ctx, d.engine); err != nil {
		return err
	}
	return d.directory()
}

// engineNote names the Engine, and says what root would add.
func (d *demo) engineNote() string {
	at := fmt.Sprintf("Docker Engine %s at %s.", d.host.EngineVersion, d.address)
	if os.Geteuid() == 0 {
		return at
	}
	return at + fmt.Sprintf("\nThis user has access to the Docker Engine and is not root: "+
		"limits are changed through the Engine.\n"+
		"As root, EffiScale also writes the CPU quota to the kernel directly, which is faster:\n\n"+
		"    sudo %s demo", d.Command)
}

// forbidden says what to type for a user whom the Engine's socket refuses.
func (d *demo) forbidden() string {
	name := userName()
	socket := strings.TrimPrefix(d.Host, "unix://")
	note := fmt.Sprintf("User %s has no access to the Docker Engine at %s.\n"+
		"To see the demo in containers:\n\n    sudo %s demo", name, socket, d.Command)
	var st syscall.Stat_t
	if err := syscall.Stat(socket, &st); err != nil || st.Gid == 0 || st.Mode&0o060 != 0o060 {
		return note
	}
	g, err := user.LookupGroupId(strconv.FormatUint(uint64(st.Gid), 10))
	if err != nil {
		return note
	}
	return note + fmt.Sprintf("\n\nor as a member of group %s, which gives the user the rights of root:\n\n"+
		"    sudo usermod -aG %s %s && sg %s -c '%s demo'", g.Name, g.Name, name, g.Name, d.Command)
}

func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return strconv.Itoa(os.Getuid())
}

// useProcesses serves the Engine's API for plain processes; where control groups cannot be
// created the demo is simulated.
func (d *demo) useProcesses(ctx context.Context) (note string, err error) {
	none := fmt.Sprintf("No Docker Engine answers at %s", d.Host)
	if err := survey(ctx, nil); err != nil {
		return "", err
	}
	if err := d.directory(); err != nil {
		return "", err
	}
	socket := filepath.Join(dirOf(d.id), "engine.sock")
	e, err := process.Open(process.Options{Socket: socket, Program: d.Binary, Parent: groupOf(d.id)})
	if err != nil {
		d.kind = simulated
		return fmt.Sprintf("%s, and the demo without one fails: %v.", none, err), nil
	}
	d.push("processes", func(context.Context) error { return e.Close() })
	d.kind, d.Host, d.CertDir = processes, "unix://"+socket, ""
	if d.engine, err = docker.Open(docker.Options{Host: d.Host}); err != nil {
		return "", err
	}
	d.host, err = d.engine.Host(ctx)
	return fmt.Sprintf("%s.\nThe load is a plain process in a control group of its own (cgroup version %d) "+
		"instead of a container.\nKernel, limits and daemon are real.", none, d.host.CgroupVersion), err
}

// print prints a text before the demonstration. A demo continues when its output is closed.
func (d *demo) print(text string) {
	if text != "" {
		_, _ = fmt.Fprintf(d.Out, "%s\n\n", ansi.Wordwrap(text, pageCols(d.Out), ""))
	}
}
