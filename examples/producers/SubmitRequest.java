import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.UUID;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Submits a request with the Java client and waits for its reply: request-reply over Kafka alone. */
public final class SubmitRequest {
  private static final String KAFKA = setting("CONSUMA_KAFKA", "127.0.0.1:9092");
  private static final String PREFIX = setting("CONSUMA_TOPIC_PREFIX", "consuma.");
  private static final String REPLY_TOPIC = PREFIX + "replies.java-example";
  private static final String REQUEST =
      "{\"operation\": \"hash_chain\", \"input\": {\"seed\": \"consuma\", \"rounds\": 1000}}";
  private static final Duration WAIT = Duration.ofSeconds(60);

  public static void main(String[] arguments) throws Exception {
    createReplyTopic();
    Map<String, Object> reading =
        Map.of("bootstrap.servers", KAFKA, "enable.auto.commit", false, "isolation.level", "read_committed");
    try (var replies = new KafkaConsumer<>(reading, new StringDeserializer(), new StringDeserializer())) {
      // Without a group, from the end, and resolved before anything is sent: the reply cannot be missed.
      var partition = new TopicPartition(REPLY_TOPIC, 0);
      replies.assign(List.of(partition));
      replies.seekToEnd(List.of(partition));
      replies.position(partition, WAIT);
      String correlationId = UUID.randomUUID().toString();
      submit(correlationId);
      System.out.println(answer(replies, correlationId).orElseThrow(
          () -> new IllegalStateException("no reply: is a compute service running?")));
    }
  }

  /** Appends the request in CloudEvents' binary mode and waits for the acknowledgement. */
  private static void submit(String correlationId) throws Exception {
    Map<String, Object> writing = Map.of("bootstrap.servers", KAFKA, "acks", "all", "compression.type", "gzip");
    var record = new ProducerRecord<String, String>(PREFIX + "requests.sync", REQUEST);
    var headers = Map.of(
        "ce_specversion", "1.0",
        "ce_type", "consuma.request.submitted.v1",
        "ce_source", "java-example",
        "ce_id", correlationId, // the same source and id are one request, however often they are sent
        "content-type", "application/json",
        "reply-topic", REPLY_TOPIC,
        "correlation-id", correlationId);
    headers.forEach((name, value) -> record.headers().add(name, value.getBytes(StandardCharsets.UTF_8)));
    try (var producer = new KafkaProducer<>(writing, new StringSerializer(), new StringSerializer())) {
      producer.send(record).get();
    }
  }

  private static Optional<String> answer(KafkaConsumer<String, String> replies, String correlationId) {
    long giveUpAt = System.nanoTime() + WAIT.toNanos();
    while (System.nanoTime() < giveUpAt) {
      for (ConsumerRecord<String, String> reply : replies.poll(Duration.ofSeconds(1))) {
        Header found = reply.headers().lastHeader("correlation-id");
        if (found != null && correlationId.equals(new String(found.value(), StandardCharsets.UTF_8))) {
          return Optional.of(reply.value());
        }
      }
    }
    return Optional.empty();
  }

  /** Makes sure that the topic for replies exists; replies are of use for minutes only. */
  private static void createReplyTopic() throws Exception {
    var config = Map.of("retention.ms", "600000", "max.message.bytes", "4194304");
    try (Admin admin = Admin.create(Map.of("bootstrap.servers", KAFKA))) {
      var topic = new NewTopic(REPLY_TOPIC, Optional.of(1), Optional.empty()).configs(config);
      admin.createTopics(List.of(topic)).all().get();
    } catch (ExecutionException error) {
      if (!(error.getCause() instanceof TopicExistsException)) {
        throw error;
      }
    }
  }

  private static String setting(String name, String standard) {
    String value = System.getenv(name);
    return value == null || value.isEmpty() ? standard : value;
  }

  private SubmitRequest() {}
}
