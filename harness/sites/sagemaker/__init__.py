"""SageMaker: a training job a trial."""
