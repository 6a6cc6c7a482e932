package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// What a request has done, as its value says.
type order struct {
	// reply, silent, twice, stranger (a reply under another id first) or garbage (headers that are none first).
	Do      string            `json:"do"`
	AfterMs int               `json:"after_ms"`
	Value   json.RawMessage   `json:"value"`
	Headers map[string]string `json:"headers"`
}

// Answers requests, as a listener with Spring's @SendTo does: each reply goes to the topic that the request's header
// kafka_replyTopic names, with the request's kafka_correlationId. It ends with its standard input.
//
//	writer respond BROKERS TOPIC
func respond(brokers, topic string) error {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(brokers, ",")...),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxWait(100*time.Millisecond),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	for {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		for _, failed := range fetches.Errors() {
			fmt.Fprintln(os.Stderr, "writer:", failed.Err)
		}
		fetches.EachRecord(func(request *kgo.Record) {
			go answer(ctx, client, request)
		})
	}
}

func answer(ctx context.Context, client *kgo.Client, request *kgo.Record) {
	var to order
	if err := json.Unmarshal(request.Value, &to); err != nil {
		fmt.Fprintln(os.Stderr, "writer: no order:", string(request.Value))
		return
	}
	var id, topic []byte
	for _, header := range request.Headers {
		switch header.Key {
		case "kafka_correlationId":
			id = header.Value
		case "kafka_replyTopic":
			topic = header.Value
		}
	}
	if to.Do == "silent" || len(topic) == 0 {
		return
	}
	time.Sleep(time.Duration(to.AfterMs) * time.Millisecond)
	reply := func(id []byte, value []byte, headers map[string]string) *kgo.Record {
		record := &kgo.Record{Topic: string(topic), Value: value}
		record.Headers = append(record.Headers, kgo.RecordHeader{Key: "kafka_correlationId", Value: id})
		for name, value := range headers {
			record.Headers = append(record.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
		}
		return record
	}
	var records []*kgo.Record
	switch to.Do {
	case "stranger":
		records = append(records, reply([]byte("sl-00000000000000000000000000000000"), []byte("stranger"), nil))
		records = append(records, &kgo.Record{Topic: string(topic), Value: []byte("no id")})
	case "garbage":
		to.Headers = map[string]string{
			"http-status": "\xff\x00", "content-type": "a\r\nx: y", "x-trace": "a\nb", "": "nameless",
		}
	}
	records = append(records, reply(id, to.Value, to.Headers))
	if to.Do == "twice" {
		records = append(records, reply(id, []byte("\"second\""), to.Headers))
	}
	for _, record := range records {
		if err := client.ProduceSync(ctx, record).FirstErr(); err != nil {
			fmt.Fprintln(os.Stderr, "writer:", err)
		}
	}
}
