"""SageMaker's side of a trial: its client, its request, what goes to S3 and what comes back."""
