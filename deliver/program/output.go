package program

import (
	"io"
	"os"
	"sync"
)

// outputs are the pipes that a program writes to, and the goroutines that read
// them.
type outputs struct {
	pipes []*pipe
	wg    sync.WaitGroup
	ended chan struct{} // all were read to their ends
}

type pipe struct {
	r, w *os.File
	err  error // of the copy, once it has ended
}

// addPipe makes a pipe. What the program writes to it goes to dst; an error of dst
// is told to failed.
func (o *outputs) addPipe(dst io.Writer, failed func(error)) (*pipe, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p := &pipe{r: r, w: w}
	o.pipes = append(o.pipes, p)
	o.wg.Go(func() {
		if _, p.err = io.Copy(dst, r); p.err != nil {
			failed(p.err)
		}
	})
	return p, nil
}

// closeWriters gives up our side of what the program writes to, whether or not it
// was started.
func (o *outputs) closeWriters() {
	for _, p := range o.pipes {
		_ = p.w.Close()
	}
	o.ended = make(chan struct{})
	go func() {
		o.wg.Wait()
		close(o.ended)
	}()
}

// close stops reading. After it nothing more is written to where the output
// went.
func (o *outputs) close() {
	for _, p := range o.pipes {
		_ = p.r.Close()
	}
	<-o.ended
}
