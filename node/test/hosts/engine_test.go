package hosts

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/effiscale/effiscale/docker/observer"
)

// engine is one host's Engine, as a witness and a person see it.
type engine struct{ *observer.Engine }

const image = "effi-load"

// loadImage gives the Engine the image of the run, the same one on every host.
func (e *engine) loadImage() error {
	if err := e.Call("POST", "/images/load?quiet=1", rig.archive, nil); err != nil {
		return err
	}
	return e.Call("GET", "/images/"+image+":1/json", nil, &struct{}{}) // an error of the load comes with status 200
}

// archiveOf is an image with one program in it, as `docker save` writes it. An import
// of a root file system would be another image on each host, for it has its own time.
func archiveOf(program string) ([]byte, error) {
	b, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	layer, err := tarOf(file{"load", b})
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": struct{}{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
	})
	if err != nil {
		return nil, err
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{image + ":1"},
		"Layers": []string{"layer.tar"}}})
	if err != nil {
		return nil, err
	}
	return tarOf(file{"layer.tar", layer}, file{"config.json", config}, file{"manifest.json", manifest})
}

type file struct {
	name string
	text []byte
}

func tarOf(files ...file) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o755, Size: int64(len(f.text))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.text); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return buf.Bytes(), err
}

const MiB = 1 << 20

// spec is a container to be made.
type spec struct {
	service string
	do      string // arguments of the load program
	cpus    float64
	memory  int64
	labels  map[string]string
	restart string // restart policy
}

// box is a running container on a host.
type box struct {
	host     *host
	id, name string
	service  string
	kernel   observer.Kernel
	began    observer.Container
}

// mark is the label that names the test; the daemons' docker.only_label.
const mark = "org.effiscale.hosts"

// box makes and starts a container that the test's daemons see.
func (h *host) box(s spec) (*box, error) {
	b := &box{host: h, service: s.service, name: fmt.Sprintf("%s-on-h%d", s.service, h.n)}
	labels := map[string]string{mark: h.t.Name(), "effiscale.enable": "true", "effiscale.service": s.service}
	for k, v := range s.labels {
		labels[k] = v
	}
	with := map[string]any{"Memory": s.memory, "MemorySwap": s.memory, "NanoCpus": int64(s.cpus * 1e9),
		"NetworkMode": "none"}
	if s.restart != "" {
		with["RestartPolicy"] = map[string]any{"Name": s.restart}
	}
	var made struct {
		ID string `json:"Id"`
	}
	body := map[string]any{"Image": image + ":1", "Cmd": append([]string{"/load"}, strings.Fields(s.do)...),
		"Labels": labels, "HostConfig": with}
	if err := h.engine.Call("POST", "/containers/create?name="+b.name, body, &made); err != nil {
		return nil, err
	}
	b.id = made.ID
	h.t.Cleanup(b.remove)
	if err := h.engine.Call("POST", "/containers/"+b.id+"/start", nil, nil); err != nil {
		return nil, err
	}
	return b, b.meet()
}

// meet finds the kernel's files of the process that runs now.
func (b *box) meet() (err error) {
	b.began = b.inspect()
	if b.kernel, err = observer.KernelOf(b.began.State.Pid); err != nil {
		return fmt.Errorf("%s: %w", b.name, err)
	}
	return nil
}

func (b *box) remove() {
	if err := b.host.engine.Remove(b.id); err != nil {
		b.host.t.Errorf("left behind: %v", err)
	}
}

func (b *box) inspect() observer.Container {
	b.host.t.Helper()
	i, err := b.host.engine.Inspect(b.id)
	if err != nil {
		b.host.t.Error(err)
	}
	return i
}

// undisturbed fails unless the container is the one that was started, alive.
func (b *box) undisturbed() {
	b.host.t.Helper()
	if i := b.inspect(); !i.Undisturbed(b.began) {
		b.host.t.Errorf("%s was disturbed: was %+v, is %+v", b.name, b.began.State, i.State)
	}
	if n := b.kernel.OOMKills(); n > 0 {
		b.host.t.Errorf("%s: %d OOM kills", b.name, n)
	}
}
