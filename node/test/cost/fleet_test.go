package cost

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/effiscale/effiscale/docker"
	"github.com/effiscale/effiscale/knowledge"
)

// startFleet runs the containers: most idle, as on most hosts, some that work a
// little, some that come and go. All are removed at the end.
func startFleet(t *testing.T, load string) map[string]bool {
	t.Helper()
	client, err := docker.Open(docker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	prefix := prefix()
	if err := client.ImportImage(t.Context(), prefix, image(t, load)); err != nil {
		t.Fatal(err)
	}
	// The test's context has ended when this runs.
	t.Cleanup(func() {
		if err := client.RemoveImage(context.Background(), prefix); err != nil {
			t.Errorf("left behind: image %s: %v", prefix, err)
		}
	})
	names := map[string]bool{}
	for i := range containers {
		name := fmt.Sprintf("%s-%d", prefix, i)
		names[name] = true
		id, err := client.Create(t.Context(), knowledge.ContainerSpec{
			Name: name, Image: prefix, Command: append([]string{"/load"}, strings.Fields(work(i))...),
			Labels: map[string]string{"effiscale.enable": "true", "cost": prefix},
			Limits: knowledge.Limits{CPU: knowledge.OneCPU / 2, Memory: 64 * knowledge.MiB, MemorySwap: 64 * knowledge.MiB},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := client.Remove(context.Background(), id); err != nil {
				t.Errorf("left behind: %s: %v", name, err)
			}
		})
		if err := client.Start(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	return names
}

// prefix is the name of everything that this run makes.
func prefix() string { return fmt.Sprintf("effiscale-cost-%d", os.Getpid()) }

// work is what container i does: 80 idle, 15 use 1 % of a core, 5 leap once.
func work(i int) string {
	switch {
	case i < 80:
		return "idle"
	case i < 95:
		return "cpu --cores 0.01"
	}
	return fmt.Sprintf("step --from 0.01 --to 0.1 --at %dm", 2+i-95)
}

// image is a root file system with one program.
func image(t *testing.T, program string) *bytes.Buffer {
	t.Helper()
	b, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	err = w.WriteHeader(&tar.Header{Name: "load", Mode: 0o755, Size: int64(len(b))})
	if err == nil {
		_, err = w.Write(b)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return &buf
}

func residentBytes(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if text, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(text)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatalf("process %d has no VmRSS", pid)
	return 0
}
