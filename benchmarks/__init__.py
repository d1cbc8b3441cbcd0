"""What mq9 takes beside what people would pick instead, measured in one run."""
